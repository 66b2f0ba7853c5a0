"""The operator's drill: fourteen stories, each by our command line, by Temporal's own, and by its UI."""
