"""The embedded stack: PostgreSQL, Temporal, the sandbox and the workers as children of one process."""
