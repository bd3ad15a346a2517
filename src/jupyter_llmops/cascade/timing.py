"""What asking a stage took so far in this session, so that savings are measured and not guessed."""

from __future__ import annotations

from collections.abc import Hashable


class StageTimes:
    """Mean seconds for a text, by stage."""

    def __init__(self) -> None:
        self._measured: dict[Hashable, tuple[int, float]] = {}

    def add(self, stage: Hashable, texts: int, seconds: float) -> None:
        """Count `seconds` that a stage took for a number of texts."""
        known_texts, known_seconds = self._measured.get(stage, (0, 0.0))
        self._measured[stage] = (known_texts + texts, known_seconds + seconds)

    def mean(self, stage: Hashable) -> float | None:
        """Return a stage's mean seconds for a text, None when it was never asked."""
        texts, seconds = self._measured.get(stage, (0, 0.0))
        return seconds / texts if texts else None


SESSION = StageTimes()
