"""The ways in for people and systems: the command line, later HTTP and the console."""
