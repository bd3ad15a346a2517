"""A look at what rows of the catalog would show of a leaf, before they are shared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from jupyter_llmops.guard.detect import Detector
from jupyter_llmops.records.run import Run

# Ids, digests, moments, numbers and versions hold no secret of a kind that can be told from them.
_PLAIN = re.compile(r"(?:sha256:)?[0-9a-f]{8,64}|[0-9TZ:.+-]*|[a-z_-]{1,24}")
_MOST_KNOWN = 20_000
_OWN = ("id", "session", "prev", "schema", "hash", "digests", "started_at", "kind", "status", "parent")


class RowScreen:
    """Withholds what a leaf says where a text of it seems to hold a secret; the row keeps its digest.

    Texts recur in nearly every leaf (a notebook's name, a model's), so each is looked at once.

    Parameters
    ----------
    detector : Detector
        Looks.
    """

    def __init__(self, detector: Detector | None = None) -> None:
        self._detector = detector or Detector()
        self._clean: set[str] = set()

    def screen(self, run: Run) -> Run:
        """Return the run as it may be shared: itself, or without its texts and with the reason why."""
        kinds: dict[str, None] = {}
        for text in _texts(run):
            if text in self._clean:
                continue
            found = self._detector.find(text)
            kinds |= dict.fromkeys(kind for kind, _ in found)
            if not found:
                if len(self._clean) >= _MOST_KNOWN:
                    self._clean.clear()
                self._clean.add(text)
        if not kinds:
            return run
        reason = f"Not shared: its record seems to hold a secret ({', '.join(kinds)})."
        return replace(
            run, notebook="", model="", source="", error_type="", leaf={"withheld": reason}, read_only=False
        )


def _texts(run: Run) -> Iterator[str]:
    yield from _within((run.notebook, run.model, run.source, run.error_type))
    if run.leaf:
        yield from _within({name: value for name, value in run.leaf.items() if name not in _OWN})


def _within(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if not _PLAIN.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _within(name)
            if isinstance(name, str) and isinstance(item, str) and item and not _PLAIN.fullmatch(item):
                yield f'{name} = "{item}"'  # beside its name a value may say more
            yield from _within(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _within(item)
