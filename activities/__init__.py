"""Temporal activities: model in, store and senders called, model out."""
