"""Runs that do not fit into memory: they work on disk, in ranges of the input and buckets of groups."""
