"""`make bench`: the figures that Clarion owes, its peers, and the bars."""
