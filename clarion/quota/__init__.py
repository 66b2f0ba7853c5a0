"""Leased rates: the pure dealer and the exchange through PostgreSQL."""
