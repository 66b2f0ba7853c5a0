"""Every sender through the same cases: `make conformance` shows the table, `make test` runs it.

drivers.py   what each provider is like: its lane, its registrations, how its simulator is told to fail
ground.py    where one sender is tried: its simulator, its processes, what each device was shown
cases.py     the cases, the same for all
table.py     all drivers by all cases, at once, and the table of what became of them
"""
