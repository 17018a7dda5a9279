"""Facts and rules: streams, artifacts, the pipeline. Standard library and msgspec only; no I/O, no clock, no random."""
