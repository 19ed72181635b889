"""Runs that would not fit into memory: in ranges of the input and buckets of groups, on disk."""
