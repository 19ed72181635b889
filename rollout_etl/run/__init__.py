"""One run of a recipe, from rollouts to published files: `execute.py` has its order, the others a stage each."""
