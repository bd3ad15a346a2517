"""Exact reuse of answers: request key, safe store for joblib.Memory, explanations."""
