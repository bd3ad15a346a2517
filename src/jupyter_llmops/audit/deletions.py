"""What leaves say was deleted: contents that were forgotten or scrubbed, sessions that were pruned.

===========  ==============================================================================
kind         fields
===========  ==============================================================================
forget       runs: a list of {of, of_session, of_seq}; deleted: where it was deleted
scrub        runs: the same with kinds, those of the secrets that were found in it afterwards,
             and digests of what is left, salted anew
retention    age; sessions: a list of {session, size, root (base64), head (of the last line),
             kernel, links (true: a list of its smaller heads was left)}
===========  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# A line of the journal holds 60,000 bytes at most.
RUNS_PER_LEAF = 400
SESSIONS_PER_LEAF = 150

Place = tuple[str, int]
"""A session and a line of it."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Who deleted something and when.

    Parameters
    ----------
    user : str
        Who.
    moment : str
        ISO 8601, UTC.
    kinds : tuple of str
        Of the secrets, where it was scrubbed.
    digests : tuple of mapping of name to ``sha256:…``
        Of the content that is left where it was scrubbed, salted anew; several where the agent was stopped between
        its word and the deed, and said another one later: any of them may have been done.
    """

    user: str
    moment: str
    kinds: tuple[str, ...] = ()
    digests: tuple[Mapping[str, str], ...] = ()

    @property
    def said(self) -> str:
        """E.g. "by ada on 2026-11-03"."""
        return f"by {self.user} on {self.moment[:10]}"


@dataclass(frozen=True, slots=True)
class Pruned:
    """A session of which only its signed head is left.

    Parameters
    ----------
    size : int
        How many leaves it had.
    root : str
        RFC 6962 root over them, base64.
    head : str
        SHA-256 of the last line, hexadecimal.
    by : Deletion
        Who pruned it.
    links : bool
        Whether a list of its smaller heads was left, as older versions do not.
    """

    size: int
    root: str
    head: str
    by: Deletion
    links: bool = False


@dataclass(slots=True)
class Deletions:
    """What was deleted with a word, by what it was."""

    forgotten: dict[Place, Deletion] = field(default_factory=dict)
    scrubbed: dict[Place, Deletion] = field(default_factory=dict)
    pruned: dict[str, Pruned] = field(default_factory=dict)

    def read(self, leaves: Iterable[Mapping[str, Any]]) -> Deletions:
        """Add what leaves say; a leaf of another kind or form says nothing. Return the same object."""
        for leaf in leaves:
            kind = leaf.get("kind")
            # A word of a session that was pruned is said anew, with the moment when it was said first.
            by = Deletion(str(leaf.get("user", "")), str(leaf.get("said_at") or leaf.get("started_at", "")))
            if kind == "forget":
                self.forgotten |= {place: by for place, _ in _places(leaf)}
            elif kind == "scrub":
                for place, one in _places(leaf):
                    self._read_scrubbed(place, Deletion(by.user, by.moment, _kinds(one), _digests(one)))
            elif kind == "retention":
                self._read_pruned(leaf, by)
        return self

    def _read_scrubbed(self, place: Place, word: Deletion) -> None:
        before = self.scrubbed.get(place)
        if before is not None:
            latest = max(before, word, key=lambda one: one.moment)
            digests = (*before.digests, *(one for one in word.digests if one not in before.digests))
            word = replace(latest, kinds=tuple(dict.fromkeys(before.kinds + word.kinds)), digests=digests)
        self.scrubbed[place] = word

    def _read_pruned(self, leaf: Mapping[str, Any], by: Deletion) -> None:
        for one in _dicts(leaf.get("sessions")):
            session, size, root = one.get("session"), one.get("size"), one.get("root")
            if isinstance(session, str) and isinstance(size, int) and isinstance(root, str):
                self.pruned[session] = Pruned(
                    size, root, str(one.get("head", "")), by, links=one.get("links") is True
                )


def deleted_runs(leaf: Mapping[str, Any]) -> list[str]:
    """Return the ids of the runs that a leaf of kind "forget" names."""
    return [one["of"] for one in _dicts(leaf.get("runs")) if isinstance(one.get("of"), str)]


def _places(leaf: Mapping[str, Any]) -> Iterable[tuple[Place, dict[str, Any]]]:
    for one in _dicts(leaf.get("runs")):
        session, seq = one.get("of_session"), one.get("of_seq")
        if isinstance(session, str) and isinstance(seq, int):
            yield (session, seq), one


def _kinds(one: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = one.get("kinds")
    return tuple(str(kind) for kind in kinds) if isinstance(kinds, list) else ()


def _digests(one: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    digests = one.get("digests")
    if not isinstance(digests, dict) or not digests:
        return ()
    return ({str(name): str(said) for name, said in digests.items()},)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
