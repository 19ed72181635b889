"""One run of a recipe, from rollouts to published files: `execute.py` calls the stages in order, and each other file is a stage."""
