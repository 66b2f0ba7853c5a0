"""Thousands of lives of campaigns under one seeded virtual clock: see docs/durability.md."""
