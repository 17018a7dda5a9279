"""Decoding for people who wait, in processes of its own: what a file does to a decoder must not happen to the API."""
