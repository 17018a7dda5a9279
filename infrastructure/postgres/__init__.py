"""Postgres: connections, pools and waiting for notifications. SQL lives with whoever needs it."""
