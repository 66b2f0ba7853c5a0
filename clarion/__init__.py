"""Clarion: a self-hosted push notification engine on Temporal and PostgreSQL."""

__version__ = "0.1.0"
