"""JetStream as the pipe between the log and the workers, and to other systems. Everything in it can be made again."""
