"""Infer a recorded run again, elsewhere, and say whether the answer is the same."""
