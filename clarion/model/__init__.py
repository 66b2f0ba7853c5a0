"""Frozen values that travel as JSON, and the words of the ledger.

Imports nothing else of ours but names and limits.
"""
