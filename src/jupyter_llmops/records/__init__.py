"""The nouns: frozen dataclasses that hold facts and do no I/O."""
