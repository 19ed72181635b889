"""Keeping training data up to date: a pipeline file says what to make from which rollouts, and each refresh publishes a version."""
