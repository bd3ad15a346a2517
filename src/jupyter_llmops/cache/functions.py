"""Values of functions, kept in the same folder as answers: sealed, computed once, limited, evicted alike."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from jupyter_llmops.cache.answer import user_at_host
from jupyter_llmops.cache.fingerprint import NoFingerprintError, code_digest, digest, fingerprint
from jupyter_llmops.cache.flight import Flight
from jupyter_llmops.cache.item_folder import SUFFIX
from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.session import Session
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.cache.values import UnkeepableError, decode_value, encode_value
from jupyter_llmops.cache.warning import warn
from jupyter_llmops.display.elements import ago, duration
from jupyter_llmops.errors import TeamKeyError, UsageError

_SCHEMA: Final = "llmops.function/1"
# A cell may well compute for an hour, unlike a model for one answer.
_LONGEST_WAIT: Final = 2 * 3600.0
_MOST_USED = 10_000
_PLAIN: Final = (bool, int, float, str, bytes, type(None))


@dataclass(frozen=True, slots=True)
class KeptValue:
    """A value and where it came from.

    Parameters
    ----------
    value : object
        Made anew for every call.
    reused : bool
        Whether it was kept already.
    said : str
        Who computed it, when and in what time, one sentence; why it is not kept, where it is not.
    """

    value: Any
    reused: bool
    said: str


class FunctionCache:
    """Values by what decides them, over the items of a store.

    Parameters
    ----------
    store : ItemStore
        Where they lie.
    session : Session
        Where hits and misses are counted.
    enabled : callable
        Whether anything is looked up and kept now.
    find_secrets : callable
        From a value to the kinds of secrets that it seems to hold; such a value is not kept.
    """

    def __init__(
        self,
        store: ItemStore,
        session: Session,
        enabled: Callable[[], bool],
        find_secrets: Callable[[Any], tuple[str, ...]],
    ) -> None:
        self._store = store
        self._session = session
        self._enabled = enabled
        self._find_secrets = find_secrets
        self._flight = Flight(lambda: store.leases, _LONGEST_WAIT)
        self._told: set[str] = set()
        self._used: dict[str, None] = {}

    def take_used(self) -> tuple[str, ...]:
        """Return the items that were kept or given since the last call, 10,000 at most."""
        used, self._used = self._used, {}
        return tuple(used)

    def call(self, name: str, identity: Callable[[], str], compute: Callable[[], Any]) -> KeptValue:
        """Return the kept value, else compute and keep it.

        Parameters
        ----------
        name : str
            For people.
        identity : callable
            Returns the fingerprint of all that decides the value.
        compute : callable
            Computes it; what it raises passes through.
        """
        if not self._enabled():
            return KeptValue(compute(), reused=False, said="the cache is off")
        try:
            key = _key(identity())
            _ = self._store.items
        except (NoFingerprintError, TeamKeyError) as error:
            return self._uncached(name, str(error), compute())
        began = time.perf_counter()
        if len(self._used) < _MOST_USED:
            self._used[key] = None
        found = self._find(key, name, began)
        if found is not None:
            return found
        with self._flight.turn(key, lambda: self._store.items.has(key + SUFFIX)):
            found = self._find(key, name, began)  # it may have come meanwhile
            if found is not None:
                return found
            self._session.computed(f"Miss: no value of {name} is kept yet for this (key {key[:12]}).")
            return self._compute(key, name, compute)

    def _find(self, key: str, name: str, began: float) -> KeptValue | None:
        try:
            found = self._store.lookup(key)
            if found is None:
                return None
            value, about = decode_value(found[0])
            if about.get("key") != key:
                raise ItemRejectedError("holds the value of another call")  # noqa: TRY301
            said, seconds = _describe(about), float(about["seconds"])
        except ItemRejectedError as rejection:
            self._store.reject(key, str(rejection))
            self._store.items.remove(key + SUFFIX)
            return None
        self._session.reused(f"Hit: {name}: {said}.", seconds, began)
        self._store.usage.note(key)
        return KeptValue(value, reused=True, said=said)

    def _compute(self, key: str, name: str, compute: Callable[[], Any]) -> KeptValue:
        began = time.perf_counter()
        value = compute()
        seconds = time.perf_counter() - began
        about = {
            "key": key,
            "name": name,
            "seconds": seconds,
            "stored_by": user_at_host(),
            "stored_at": datetime.now(UTC).isoformat(),
        }
        try:
            body = encode_value(value, about)
        except UnkeepableError as error:
            return self._uncached(name, f"its value holds {error}", value)
        secrets = self._find_secrets(value)
        if secrets:
            return self._uncached(name, f"its value seems to hold a secret ({', '.join(secrets)})", value)
        if self._store.keep(key, body, seconds) is None:
            return KeptValue(value, reused=False, said=self._store.problem)
        return KeptValue(value, reused=False, said="")

    def _uncached(self, name: str, reason: str, value: Any) -> KeptValue:
        said = f"The value of {name} is not kept: {reason}."
        self._session.say(said)
        if said not in self._told:  # once, however often it is called
            self._told.add(said)
            warn(said)
        return KeptValue(value, reused=False, said=said)

    def decorate(
        self, function: Callable[..., Any], *, version: str | None = None, ignore: Iterable[str] = ()
    ) -> Callable[..., Any]:
        """Return a function that computes each value once; see `Workspace.cached`."""
        ignored = frozenset(ignore)
        if (
            inspect.iscoroutinefunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise UsageError(
                f"{function.__name__} gives its values one after another, or later, so none can be kept.",
                "Cache a function that returns its value.",
            )
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise UsageError(
                f"{function!r} says no names of its arguments.", "Cache a function of your own."
            ) from None
        unknown = ignored - set(signature.parameters)
        if unknown:
            raise UsageError(
                f"{function.__name__} has no argument {', '.join(sorted(unknown))}.",
                f"It has {', '.join(signature.parameters) or 'none'}.",
            )

        @functools.wraps(function)
        def kept(*arguments: Any, **named: Any) -> Any:
            def identity() -> str:
                bound = signature.bind(*arguments, **named)
                bound.apply_defaults()
                given = {name: value for name, value in bound.arguments.items() if name not in ignored}
                parts = [
                    part
                    for name, value in sorted(given.items())
                    for part in (name, fingerprint(value, f"the argument {name}"))
                ]
                return digest("call", _code_identity(function, version), *parts)

            signature.bind(*arguments, **named)  # a wrong call is the caller's error, as without us
            return self.call(function.__name__, identity, lambda: function(*arguments, **named)).value

        return kept


def _code_identity(code: Callable[..., Any], version: str | None) -> str:
    if version is None:
        return fingerprint(code, code.__name__)
    parts = [code.__module__, code.__qualname__, version]
    # A version stands for what a function reads, and for the code of a module. Two notebooks may both have
    # a function of one name, and what a closure was made with tells it from its siblings.
    if code.__module__ == "__main__" and hasattr(code, "__code__"):
        parts.append(code_digest(code.__code__))
    for cell in getattr(code, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty cell
            if type(cell.cell_contents) in _PLAIN:
                parts.append(fingerprint(cell.cell_contents, code.__name__))
    return digest("version", *parts)


def _key(identity: str) -> str:
    return hashlib.sha256(f"{_SCHEMA}\0{identity}".encode("utf-8", "surrogatepass")).hexdigest()


def _describe(about: dict[str, Any]) -> str:
    try:
        at = datetime.fromisoformat(about["stored_at"])
        return f"{about['stored_by']} computed it {ago(at)} in {duration(float(about['seconds']))}"
    except (KeyError, TypeError, ValueError) as error:
        raise ItemRejectedError(f"says not where it came from ({error})") from error
