"""Use cases: one handler for all commands, reactions to events, results of workers. Knows no framework."""
