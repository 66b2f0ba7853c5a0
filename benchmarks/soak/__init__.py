"""`make soak`: pushes, faults and deploys for half an hour, and what may not grow meanwhile."""
