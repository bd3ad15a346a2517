"""What a leaf says of values: salted digests, bounded in time and size, that never call a user's code."""

from jupyter_llmops.audit.values.digests import digest_value, digest_values
from jupyter_llmops.audit.values.random_states import random_states

__all__ = ["digest_value", "digest_values", "random_states"]
