"""Cutting secrets out of a text before it is kept anywhere."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from jupyter_llmops.guard.assignments import find_assignments, is_secret, name_strength
from jupyter_llmops.guard.environment import SHORTEST_VALUE, is_distinctive, secret_values
from jupyter_llmops.guard.known_values import KnownValues
from jupyter_llmops.guard.rules import RULES, Rule

NAMED = "named-secret"
_MOST_RECENT = 64
_MOST_WITHIN = 256
_DEEPEST = 3
_LONG_WORD = re.compile(r"(?<![a-z0-9_~+/=.:-])[a-z0-9_~+/=.:-]{16,}")
# What stands for one character and ends in a letter or digit, so that a token behind it does not seem to begin
# where a word begins: escapes of literals (also of JSON in JSON), of URLs (also twice), colours of terminals.
_ESCAPES = (
    r"(?:(?:\x1b|\\+(?:x1[bB]|u001[bB]|033|e))\[[0-9;:?]*[A-Za-z]"
    r"|\\+(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[0-7]{1,3}|[abefnrtv])"
    r"|%(?:25)*[0-9A-Fa-f]{2})"
)
_ESCAPE = re.compile(_ESCAPES)
_ESCAPE_BEFORE_WORD = re.compile(_ESCAPES + r"(?=[A-Za-z0-9_-]{4})")
_KEYWORDS = [(keyword, place) for place, rule in enumerate(RULES) for keyword in rule.keywords]
_KEYWORDS_IN_WORDS = [(keyword, place) for keyword, place in _KEYWORDS if RULES[place].one_word]
# Most tokens begin with their keyword, where a word begins: one look for the three letters that words
# begin with is faster than one for each keyword.
_BEGINNING = re.compile(r"(?<![a-z0-9])(?=([a-z0-9]..))")
_KEYWORDS_BY_BEGINNING: dict[str, list[tuple[str, int]]] = {}
_KEYWORDS_WITHIN = []
for _keyword, _place in _KEYWORDS_IN_WORDS:
    if RULES[_place].begins and len(_keyword) >= 3 and _keyword[0].isalnum():
        _KEYWORDS_BY_BEGINNING.setdefault(_keyword[:3], []).append((_keyword, _place))
    else:
        _KEYWORDS_WITHIN.append((_keyword, _place))
_KEYWORDS_IN_TEXT = [(keyword, place) for keyword, place in _KEYWORDS if not RULES[place].one_word]


class Redaction(NamedTuple):
    """A text without its secrets, and the kinds of those that were found in it."""

    text: str
    found: tuple[str, ...]


class Redactor:
    """Replaces secrets by ``[redacted:KIND]``.

    Three ways lead to one: the format of a known service's token; the value of a variable of the
    environment with a secret-looking name, as it is now or ever was in this session; an assignment
    to a secret-looking name. What an assignment gave away is remembered (in memory only) and cut
    out of every later text too, so that a password that was typed once is not kept when it is
    prompted or raised; of the last 10,000 of them, the environment's not counted.

    It can't know a secret that looks like ordinary text under an ordinary name.

    Parameters
    ----------
    environ : mapping
        The environment; read again whenever it has changed.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        # Copying the encoded table of os.environ costs 1 µs, decoding it 100.
        raw = getattr(environ, "_data", None)
        self._table: Mapping[Any, Any] = raw if isinstance(raw, dict) else environ
        self._seen: dict[Any, Any] | None = None
        # Reentrant, as a signal handler may stamp while its own thread is redacting.
        self._lock = threading.RLock()
        self._known = KnownValues()
        # A cell's source is asked for twice, its notebook's path and the fields of a map's rows again and
        # again. Those of before, so that what recurs outlives the many texts that come once.
        self._recent: dict[str, Redaction] = {}
        self._recent_before: dict[str, Redaction] = {}

    def redact(self, text: str) -> Redaction:
        """Return `text` without what looks like a secret.

        Parameters
        ----------
        text : str
            Any text; a secret inside JSON or a Python literal is found in its escaped spelling too.
        """
        self._read_environment()
        recent, before = self._recent, self._recent_before
        if (known := recent.get(text)) is not None:
            return known
        if (known := before.get(text)) is not None:
            return self._keep_recent(text, known, recent, before)
        found: dict[str, None] = {}
        clean = self._known.cut(text, found)
        searched, lowered = clean, _lowered(clean)
        for rule in _candidates(lowered):
            clean = self._without_tokens(clean, rule, found)
        if clean is not searched:
            lowered = _lowered(clean)
        clean = self._cut(clean, list(find_assignments(clean, lowered)), NAMED, found)
        if ("\\" in clean or "%" in clean or "\x1b" in clean) and _ESCAPE_BEFORE_WORD.search(clean):
            clean = self._without_escaped(clean, found)
        if found:
            # What was learned just now may stand elsewhere in the same text under no name.
            clean = self._known.cut(clean, found)
        result = Redaction(clean, tuple(found))
        return self._keep_recent(text, result, recent, before)

    def learn(self, name: str, value: object) -> bool:
        """Remember a variable's value if its name says that it is secret; return whether it is.

        Parameters
        ----------
        name : str
            Of a notebook variable, a parameter, an attribute or a key. What many names hold that
            are no secrets (``keys``, ``auth``, ``token``) is remembered where it looks random.
        value : object
            A text, bytes, a number or a UUID; or a list, tuple, set or dict with some of them.
        """
        strength = name_strength(name)
        if not strength:
            return False
        learned = False
        for text, near, sure in islice(_texts_within(value, strength, _DEEPEST), _MOST_WITHIN):
            # A list under a secret name may hold ordinary words beside its secrets.
            if sure or _is_no_word(text):
                learned |= self._learn_named(text, near)
        return learned

    def _keep_recent(
        self, text: str, result: Redaction, recent: dict[str, Redaction], before: dict[str, Redaction]
    ) -> Redaction:
        """Remember a result in the table that was there when its text was begun."""
        # What is learned meanwhile puts new tables in place of both: then what is kept here is forgotten.
        recent[text] = result
        if len(recent) >= _MOST_RECENT:
            with self._lock:
                if self._recent is recent and self._recent_before is before:
                    self._recent, self._recent_before = {}, recent
        return result

    def _learn_named(self, text: str, strength: int) -> bool:
        return is_secret(text, strength, SHORTEST_VALUE) and self._remember(text, NAMED)

    def _read_environment(self) -> None:
        if self._seen == self._table:
            return
        self._seen = dict(self._table)
        # Values are added and never dropped: a token that was deleted from the environment after
        # its use is as secret as before.
        for value, name in secret_values(self._environ).items():
            self._remember(value, f"environment:{name}", stays=True)

    def _remember(self, value: str, kind: str, *, stays: bool = False) -> bool:
        if not is_distinctive(value):
            return False
        if self._known.add(value, kind, stays=stays):
            with self._lock:
                self._recent, self._recent_before = {}, {}
        return True

    def _without_tokens(self, text: str, rule: Rule, found: dict[str, None]) -> str:
        marker = f"[redacted:{rule.kind}]"
        if not rule.pattern.groups:
            text, count = rule.pattern.subn(marker, text)
            if count:
                found[rule.kind] = None
            return text
        spans = [match.span(1) for match in rule.pattern.finditer(text)]
        return self._cut(text, spans, rule.kind, found)

    def _without_escaped(self, text: str, found: dict[str, None]) -> str:
        """Return a text without what is seen to be a secret where escapes are blanks."""
        blanked = _blanked(text)
        for rule in _candidates(_lowered(blanked)):
            group = 1 if rule.pattern.groups else 0
            spans = [match.span(group) for match in rule.pattern.finditer(blanked)]
            if spans:
                text = self._cut(text, spans, rule.kind, found)
                blanked = _blanked(text)
        return self._cut(text, list(find_assignments(blanked, _lowered(blanked))), NAMED, found)

    def _cut(self, text: str, spans: list[tuple[int, int]], kind: str, found: dict[str, None]) -> str:
        end = len(text) + 1
        for start, stop in sorted(set(spans), reverse=True):
            if stop > end or "[redacted:" in text[start:stop] or "${" in text[start:stop]:
                continue
            found[kind] = None
            self._learn_value(text[start:stop])
            text = f"{text[:start]}[redacted:{kind}]{text[stop:]}"
            end = start
        return text

    def _learn_value(self, value: str) -> None:
        # Cutting a common word out of everything that follows would be worse than missing it.
        if _is_no_word(value):
            self._remember(value, NAMED)


def _is_no_word(value: str) -> bool:
    return len(value) >= 16 or not value.isalpha()


def _scalar_texts(value: object) -> tuple[str, ...]:
    """Return how a single value is written in a text; nothing for what is not a single value."""
    if isinstance(value, str):
        return (str.__str__(value),)
    if isinstance(value, bytes | bytearray):
        written = repr(bytes(value))[2:-1]
        try:
            return tuple(dict.fromkeys((bytes(value).decode(), written)))
        except UnicodeDecodeError:
            return (written,)
    if isinstance(value, int | float | uuid.UUID) and not isinstance(value, bool):
        return (str(value),)
    return ()


def _texts_within(
    value: object, strength: int, depth: int, *, sure: bool = True
) -> Iterator[tuple[str, int, bool]]:
    """Yield each text in a value, how secret the names above it look, and whether the last one says so."""
    inner: Iterable[tuple[object, object]]
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        inner = ((None, item) for item in value)
    else:
        yield from ((text, strength, sure) for text in _scalar_texts(value))
        return
    if depth:
        for key, item in islice(inner, _MOST_WITHIN):
            own = name_strength(key) if isinstance(key, str) else 0
            yield from _texts_within(item, max(strength, own), depth - 1, sure=own == 2)


def _blanked(text: str) -> str:
    """Return the text with blanks for escapes and every other character in its place."""
    return _ESCAPE.sub(lambda match: " " * len(match.group()), text)


def _candidates(lowered: str) -> list[Rule]:
    """Return the rules whose keyword is in a text in lower case: for an ordinary text none or few."""
    # A token is a long word without spaces. Few words of a text are: only they are searched.
    words = "\n".join(_LONG_WORD.findall(lowered))
    places = [place for keyword, place in _KEYWORDS_IN_TEXT if keyword in lowered]
    if words:
        places += [place for keyword, place in _KEYWORDS_WITHIN if keyword in words]
        for beginning in _KEYWORDS_BY_BEGINNING.keys() & _BEGINNING.findall(words):
            places += [place for keyword, place in _KEYWORDS_BY_BEGINNING[beginning] if keyword in words]
    return [RULES[place] for place in sorted(set(places))] if places else []


def _lowered(text: str) -> str:
    """Return the text in lower case with every character in its place."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(character.lower() if character.isascii() else character for character in text)
