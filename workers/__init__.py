"""Worker processes and the embedded stack."""
