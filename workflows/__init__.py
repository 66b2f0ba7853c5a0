"""Deterministic Temporal workflows: campaign, push, batch."""
