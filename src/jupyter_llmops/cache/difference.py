"""In which fields two requests differ, and which recent request was nearest."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict, deque
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from jupyter_llmops.display.elements import ago
from jupyter_llmops.records.request import InferenceRequest

_SHOWN: Final = 28
_BEFORE: Final = 8
_MOST_FIELDS: Final = 3
_LARGE: Final = 10_000
_MISSING: Final = object()


class Asked(NamedTuple):
    """A request of this process and what became of its answer.

    Parameters
    ----------
    request : InferenceRequest
        What was asked.
    at : datetime
        UTC; when it was asked.
    unstored : str
        Why its answer was not stored; empty when it was.
    size : int
        Characters of its messages.
    """

    request: InferenceRequest
    at: datetime
    unstored: str
    size: int


class RecentRequests:
    """The last requests of this process, bounded in number and in characters.

    Parameters
    ----------
    most : int
        Number of requests.
    characters : int
        Characters of message content, all together.
    """

    def __init__(self, most: int = 64, characters: int = 1_000_000) -> None:
        self._most = most
        self._characters = characters
        self._held = 0
        self._asked: OrderedDict[str, Asked] = OrderedDict()
        # A hit from memory takes microseconds, so it only drops its request here; a miss sorts them in.
        self._new: deque[tuple[str, InferenceRequest, float, str]] = deque(maxlen=most)
        self._lock = threading.Lock()

    def add(self, key: str, request: InferenceRequest, unstored: str = "") -> None:
        """Remember a request as the newest one; one too large to be shown anyway is left out."""
        self._new.append((key, request, time.time(), unstored))
        for message in request.messages:
            if len(message.content) > _LARGE:
                with self._lock:
                    self._sort_in()
                return

    def _sort_in(self) -> None:
        while self._new:
            key, request, at, unstored = self._new.popleft()
            size = sum(len(message.content) for message in request.messages)
            if size > self._characters:
                continue
            self._drop(key)
            self._asked[key] = Asked(request, datetime.fromtimestamp(at, UTC), unstored, size)
            self._held += size
            while len(self._asked) > self._most or self._held > self._characters:
                self._drop(next(iter(self._asked)))

    def get(self, key: str) -> Asked | None:
        """Return the request with this key."""
        with self._lock:
            self._sort_in()
            return self._asked.get(key)

    def nearest(self, request: InferenceRequest) -> tuple[Asked, list[str]] | None:
        """Return the request that differs in fewest fields, the newest of those, and the fields."""
        with self._lock:
            self._sort_in()
            candidates = list(reversed(self._asked.values()))
        best: tuple[Asked, list[str]] | None = None
        for asked in candidates:
            fields = differing_fields(asked.request, request)
            if best is None or len(fields) < len(best[1]):
                best = (asked, fields)
        return best

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._new.clear()
            self._asked.clear()
            self._held = 0

    def _drop(self, key: str) -> None:
        gone = self._asked.pop(key, None)
        if gone is not None:
            self._held -= gone.size


def differing_fields(before: InferenceRequest, after: InferenceRequest) -> list[str]:
    """Return the fields that differ, as ``path old → new`` with long values shortened."""
    old, new = _flat(before.canonical()), _flat(after.canonical())
    paths = [*old, *(path for path in new if path not in old)]
    found = []
    for path in paths:
        was, now = old.get(path, _MISSING), new.get(path, _MISSING)
        if was != now or type(was) is not type(now):
            found.append(f"{path} {_change(was, now)}")
    return found


def describe_nearest(asked: Asked, fields: list[str]) -> str:
    """Return a sentence that says how a request differs from the nearest recent one."""
    when = ago(asked.at)
    if len(fields) == 1:
        return f"it differs from the request asked {when} only in {fields[0]}"
    if len(fields) <= _MOST_FIELDS:
        return f"it differs from the request asked {when} in {', '.join(fields[:-1])} and {fields[-1]}"
    names = ", ".join(field.split(" ", 1)[0] for field in fields[:_MOST_FIELDS])
    return f"the nearest request, asked {when}, differs in {len(fields)} fields ({names}, …)"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name, item in value.items():
            found |= _flat(item, f"{path}.{name}" if path else name)
        return found
    if isinstance(value, list):
        found = {f"{path}.count": len(value)}
        for position, item in enumerate(value):
            found |= _flat(item, f"{path}[{position}]")
        return found
    return {path: value}


def _change(was: Any, now: Any) -> str:
    if was is _MISSING:
        return f"(new) {_short(now, 0)}"
    if now is _MISSING:
        return f"{_short(was, 0)} (gone)"
    start = 0
    if isinstance(was, str) and isinstance(now, str):
        start = next((at for at, (one, other) in enumerate(zip(was, now, strict=False)) if one != other), 0)
    return f"{_short(was, start)} → {_short(now, start)}"


def _short(value: Any, difference: int) -> str:
    """Return a value as JSON; of a long text the part around its first difference."""
    if not isinstance(value, str):
        return json.dumps(value)
    begin = 0 if len(value) <= _SHOWN else max(0, min(difference - _BEFORE, len(value) - _SHOWN))
    shown = value[begin : begin + _SHOWN]
    shown = ("…" if begin else "") + shown + ("…" if begin + _SHOWN < len(value) else "")
    return json.dumps(shown, ensure_ascii=False)
