"""Training data that keeps itself up to date: a pipeline file says what is made of which rollouts, each refresh publishes a version."""
