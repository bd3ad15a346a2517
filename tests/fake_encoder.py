"""An encoder that needs no model: words are hashed into a vector, the same everywhere and at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jupyter_llmops.records.collection import EmbeddingSpace


class FakeEncoder:
    """Texts that share words have near vectors; `embedded` remembers what it was asked.

    Parameters
    ----------
    name : str
        Encoders of two names make two spaces.
    dimension, max_tokens : int
        Of its space.
    """

    def __init__(self, name: str = "fake", dimension: int = 32, max_tokens: int = 100) -> None:
        digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
        self.space = EmbeddingSpace(name, digest, "mean", True, dimension, max_tokens)
        self.embedded: list[str] = []
        self.before_embedding: Callable[[], Any] = lambda: None

    def embed(
        self, texts: Sequence[str], progress: Callable[[str, float | None], None] | None = None
    ) -> np.ndarray:
        """Return one vector a text."""
        self.before_embedding()
        self.embedded += texts
        if progress is not None:
            progress("", 1.0)
        return np.array([self._vector(text) for text in texts], dtype=np.float32).reshape(
            -1, self.space.dimension
        )

    def embed_query(self, text: str) -> np.ndarray:
        """Return one vector."""
        return self._vector(text)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return words and marks of punctuation; words of more than eight letters are several tokens."""
        return [match.span() for match in re.finditer(r"\w{1,8}|[^\w\s]", text)]

    def count_tokens(self, text: str) -> int:
        """Return how many tokens there are."""
        return len(self.token_spans(text))

    def _vector(self, text: str) -> np.ndarray:
        vector = np.full(self.space.dimension, 0.01, dtype=np.float32)
        for word in re.findall(r"\w+", text.casefold()):
            digest = hashlib.sha256((self.space.encoder + word).encode()).digest()
            for place in digest[:3]:  # several places, so that two words hardly share all of them
                vector[place % self.space.dimension] += 1
        return vector / np.linalg.norm(vector)
