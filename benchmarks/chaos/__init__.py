"""Campaigns in flight, and everything around them breaks: `make chaos` (docs/durability.md)."""
