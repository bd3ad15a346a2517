"""Secrets that are known by their value, cut out of texts wherever they stand."""

from __future__ import annotations

import re
import threading
from bisect import insort
from typing import Final, NamedTuple

from jupyter_llmops.guard.environment import SHORTEST_VALUE, spellings

MOST_VALUES: Final = 10_000
# Looking for each of so many spellings takes less time than looking up each place of the text.
_FEW: Final = 200
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]+")


class _Search(NamedTuple):
    """A value, how it may be spelt, and what it is replaced by; the longest first, then the oldest."""

    size: int
    number: int
    kind: str
    forms: tuple[tuple[str, re.Pattern[str] | None], ...]


class KnownValues:
    """Values and their spellings; the time that a text takes does not grow with how many are known.

    Each spelling is filed under its first characters, and the text is asked for these at each place. Any
    thread may use it.

    Parameters
    ----------
    most : int
        Values that are remembered; the one that was seen last longest ago makes way, unless it was given to
        stay.
    """

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        # Reentrant, as a signal handler may stamp while its own thread is redacting.
        self._lock = threading.RLock()
        self._known: dict[str, _Search] = {}
        self._staying: dict[str, _Search] = {}
        self._number = 0
        self._forms = 0
        # While they are few; lists and tuples are replaced and never changed, as another thread may read them.
        self._few: list[_Search] | None = []
        self._beginnings: dict[str, tuple[_Search, ...]] = {}

    def add(self, value: str, kind: str, *, stays: bool = False) -> bool:
        """Remember a value; return whether it is new.

        Parameters
        ----------
        value : str
            6 characters or more.
        kind : str
            What stands in its place: ``[redacted:KIND]``.
        stays : bool
            Whether it never makes way.
        """
        with self._lock:
            if value in self._staying:
                return False
            if value in self._known:
                if not stays:
                    self._seen(value)
                    return False
                self._drop(value)
            if not stays and len(self._known) >= self._most:
                self._drop(next(iter(self._known)))
            forms = tuple((form, _whole_word(form)) for form in spellings(value))
            self._number += 1
            search = _Search(-len(value), self._number, kind, forms)
            (self._staying if stays else self._known)[value] = search
            self._forms += len(forms)
            for form, _ in forms:
                beginning = form[:SHORTEST_VALUE]
                self._beginnings[beginning] = (*self._beginnings.get(beginning, ()), search)
            if self._few is not None:
                few = self._few.copy()
                insort(few, search)
                self._few = few if self._forms <= _FEW else None
            return True

    def cut(self, text: str, found: dict[str, None]) -> str:
        """Return a text without the values, and note the kinds of those that were in it."""
        few = self._few
        for search in self._in(text) if few is None else few:
            for form, whole in search.forms:
                if form in text:
                    marker = f"[redacted:{search.kind}]"
                    clean = text.replace(form, marker) if whole is None else whole.sub(marker, text)
                    if clean != text:
                        found[search.kind] = None
                        self._seen(form)
                        text = clean
        return text

    def _in(self, text: str) -> list[_Search]:
        """Return what may be in a text, the longest first."""
        known, size = self._beginnings, SHORTEST_VALUE
        places = range(len(text) - size + 1)
        there = {beginning for start in places if (beginning := text[start : start + size]) in known}
        return sorted({search for beginning in there for search in known.get(beginning, ())})

    def _seen(self, value: str) -> None:
        """Let a value make way later than those that were not seen since."""
        with self._lock:
            search = self._known.pop(value, None)
            if search is not None:
                self._known[value] = search

    def _drop(self, value: str) -> None:
        search = self._known.pop(value)
        self._forms -= len(search.forms)
        if self._few is not None:
            self._few = [one for one in self._few if one is not search]
        for form, _ in search.forms:
            beginning = form[:SHORTEST_VALUE]
            left = tuple(one for one in self._beginnings.get(beginning, ()) if one is not search)
            if left:
                self._beginnings[beginning] = left
            else:
                self._beginnings.pop(beginning, None)


def _whole_word(form: str) -> re.Pattern[str] | None:
    """Return the pattern of a short plain word, which must not be cut out of longer ones."""
    if len(form) >= 12 or not _ALPHANUMERIC.fullmatch(form):
        return None
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])")
