"""The loop of a run, read top to bottom in trainer.py, and its parts."""
