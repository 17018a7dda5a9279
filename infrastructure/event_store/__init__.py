"""The event log in Postgres: the eventsourcing library with a recorder and a mapper of our own."""
