"""Measurements and the demo: programs that run the product from outside."""
