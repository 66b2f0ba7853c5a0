"""Adapters for the providers: one module each, its auth and its classify table."""
