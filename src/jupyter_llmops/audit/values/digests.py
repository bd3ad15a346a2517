"""Digests of a cell's values, within the time that a cell may wait for them."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from jupyter_llmops.audit.values.limits import Limits, SkippedError
from jupyter_llmops.audit.values.writer import ValueWriter

CELL_SECONDS: Final = 0.002
LARGEST: Final = 64_000_000
_START: Final = b"llmops.value/1\0"
_SHORT: Final = 4096

Redact = Callable[[str], tuple[str, tuple[str, ...]]]


def digest_values(
    names: Iterable[str],
    namespace: Mapping[str, Any],
    salt: str | bytes,
    budget_seconds: float = CELL_SECONDS,
    *,
    redact: Redact | None = None,
) -> dict[str, str]:
    """Return a digest of each named value, or why it has none.

    The same value has the same digest in every process that uses the same salt; a value that was changed in
    place has another. No code of a value's own is called (see `writer`), and all of them together take hardly
    more than the budget: smaller values come first, what can't end in time is not begun.

    Parameters
    ----------
    names : iterable of str
        Those that the namespace lacks are left out.
    namespace : dict
        A notebook's variables.
    salt : str or bytes
        16 random bytes (as hexadecimal digits); who has it can try guesses, and nobody else.
    budget_seconds : float
        For all of them together.
    redact : callable, optional
        The journal's: a text that is a secret gets no digest, nor does a number or container under a secret's
        name, as the salt lies in the same folder as the leaf and a short secret could be guessed.

    Returns
    -------
    dict of name to str
        ``sha256:…`` over salt, type and canonical bytes, or ``skipped: REASON``.
    """
    from jupyter_llmops.audit.values.plain import short_form

    seed = _START + _salt_bytes(salt)
    limits = Limits(budget_seconds, LARGEST)
    get: Any = dict.get if issubclass(type(namespace), dict) else type(namespace).get
    missing = object()
    found = [(name, get(namespace, name, missing)) for name in names]
    given = [(name, value) for name, value in found if value is not missing]
    digests: dict[str, str] = {}
    for name, value in sorted(given, key=_size_hint) if len(given) > 1 else given:
        try:
            # Most values are a number under an ordinary name.
            asked = redact is not None and (id(type(value)) not in _TINY or _SECRET_HINT.search(name))
            reason = _why_secret(name, value, redact, limits) if asked and redact is not None else ""
        except SkippedError as over:
            reason = str(over)
        if reason:
            digests[name] = f"skipped: {reason}"
        elif (short := short_form(value)) is not None and not limits.over():
            digests[name] = "sha256:" + hashlib.sha256(seed + short).hexdigest()
        else:
            told = _told(seed, limits, value)
            # Why a value was skipped may name its class, and a class's name is its maker's choice.
            named = told.startswith("skipped") and _BY_LIMITS.match(told) is None
            digests[name] = redact(told)[0] if redact is not None and named else told
    return {name: digests[name] for name, _ in given}


def digest_value(
    value: Any,
    salt: str | bytes = b"",
    *,
    budget_seconds: float = 60.0,
    largest: int = sys.maxsize,
    thorough: bool = True,
) -> str:
    """Return the digest of one value, or ``skipped: REASON``, with as much time as its caller has.

    Parameters
    ----------
    value : object
        What `digest_values` takes.
    salt : str or bytes
        Hexadecimal digits or bytes; without one, equal values are known again everywhere.
    budget_seconds : float
        The most time.
    largest : int
        The most bytes.
    thorough : bool
        Read memory-mapped files and a GPU's memory, too.
    """
    seed = _START + _salt_bytes(salt)
    return _told(seed, Limits(budget_seconds, largest), value, thorough=thorough)


def _told(seed: bytes, limits: Limits, value: Any, *, thorough: bool = False) -> str:
    try:
        limits.check()
        writer = ValueWriter(limits, seed, thorough=thorough)
        writer.value(value)
    except SkippedError as reason:
        return f"skipped: {reason}"
    except Exception as error:  # noqa: BLE001 - a library's own trouble with its value; the cell goes on
        return f"skipped: it can't be read ({type(error).__name__})"
    return "sha256:" + writer.hash.hexdigest()


def _salt_bytes(salt: str | bytes) -> bytes:
    return bytes.fromhex(salt) if isinstance(salt, str) else salt


def _is_secret(name: str, value: Any, redact: Redact) -> bool:
    """Return whether a value could be a secret that is short enough to be guessed from its digest and salt."""
    kind = type(value)
    if (kind is not str and kind is not bytes) or len(value) > _SHORT:
        return False  # a number would be learnt as a secret; what is longer can't be guessed
    text = value if type(value) is str else value.decode("latin-1")
    try:
        return bool(redact(f'{name} = "{text}"')[1])
    except Exception:  # noqa: BLE001 - what can't be searched may be one
        return True


def _why_secret(name: str, value: Any, redact: Redact, limits: Limits) -> str:
    """Return why a value gets no digest as it may be a secret, empty where it is none.

    Raises
    ------
    SkippedError
        There was no time to see: then it gets none either.
    """
    limits.check()
    if _is_secret(name, value, redact):
        return "it looks like a secret"
    return "secret name" if _has_secret_name(name, value, redact, limits) else ""


def _has_secret_name(name: str, value: Any, redact: Redact, limits: Limits) -> bool:
    """Return whether a number or a container stands under a secret's name, or something in it does.

    A password of digits is soon guessed from its digest and salt, and so is the only text of a list.
    """
    kind = type(value)
    if issubclass(kind, int | float | complex):
        return kind is not bool and _is_secret_name(name, redact)
    if not issubclass(kind, dict | list | tuple | set | frozenset | bytearray):
        return False
    try:
        if _is_secret_name(name, redact):
            return True
        if issubclass(kind, dict):
            inner = list(islice(dict.items(value), _MOST_WITHIN))
            return any(
                type(key) is str and _is_named_secret(key, item, redact, limits) for key, item in inner
            )
        if issubclass(kind, bytearray) or _SECRET_HINT.search(name) is None:
            return False
        iterate = next(base.__iter__ for base in (list, tuple, set, frozenset) if issubclass(kind, base))
        for item in islice(iterate(value), _MOST_WITHIN):
            limits.check()
            if _is_secret(name, item, redact):
                return True
        return False
    except SkippedError:
        raise
    except Exception:  # noqa: BLE001 - what changes meanwhile can't be searched
        return True


def _is_named_secret(name: str, value: Any, redact: Redact, limits: Limits) -> bool:
    if value is None or type(value) is bool or _SECRET_HINT.search(name) is None:
        return False
    limits.check()
    return _is_secret_name(name, redact) or _is_secret(name, value, redact)


def _is_secret_name(name: str, redact: Redact) -> bool:
    """Return whether the redactor would cut whatever stands under a name: also an ordinary word, which it never learns."""
    return _SECRET_HINT.search(name) is not None and bool(redact(f'{name} = "swordfish"')[1])


# Only a hint, so that few names are searched: the redactor decides.
_SECRET_HINT: Final = re.compile(
    "pass|pwd|secret|token|key|cred|auth|conn|salt|sign|cookie|dsn|pat", re.IGNORECASE
)
_MOST_WITHIN: Final = 64
# What `Limits` says has no words of others in it.
_BY_LIMITS: Final = re.compile(r"skipped: (?:\d|not read within )")

_SIZED: Final = {id(kind): kind for kind in (str, bytes, bytearray)}
_FILLED: Final = {id(kind): kind for kind in (list, tuple, dict, set, frozenset)}
_TINY: Final = {id(kind): kind for kind in (int, float, bool, type(None))}


def _size_hint(named: tuple[str, Any]) -> int:
    """Return about how many bytes a value has, so that a large one does not starve the small ones."""
    value = named[1]
    kind = type(value)
    if id(kind) in _TINY:
        return 0
    if id(kind) in _SIZED:
        return len(value)
    if id(kind) in _FILLED:
        return 64 * len(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        return int(value.nbytes)
    return 100_000
