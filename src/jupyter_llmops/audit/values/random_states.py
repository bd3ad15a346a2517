"""Digests of the states of the process's own random generators, before a cell or a training."""

from __future__ import annotations

import hashlib
import marshal
import random
import sys
from typing import Any


def random_states() -> dict[str, str]:
    """Return the state of each global generator of a library that is loaded, as ``sha256:…``.

    Unsalted, so that equal states are known again: with the same seed, two runs begin alike.

    Returns
    -------
    dict
        ``python`` (`random`), ``numpy`` (the legacy generator behind ``numpy.random.seed``) and ``torch`` (the
        CPU's); a library that is not loaded, or whose generator was replaced, is left out.
    """
    found: dict[str, str] = {}
    for name, read in (("python", _python), ("numpy", _numpy), ("torch", _torch)):
        try:
            state: bytes | None = read()
        except Exception:  # noqa: BLE001 - somebody's own thing stands in its place
            state = None
        if state is not None:
            known = _latest.get(name)
            if known is None or known[0] != state:
                known = _latest[name] = state, "sha256:" + hashlib.sha256(state).hexdigest()
            found[name] = known[1]
    return found


# Most cells draw no random number: what the states were before the last one saves most of the work.
_latest: dict[str, tuple[bytes, str]] = {}
_latest_written: dict[str, tuple[object, bytes]] = {}
_MT19937_BYTES = 624 * 4 + 4  # NumPy's struct: the key and the position in it


def _memory(thing: object) -> object:
    """Return the bytes of an object itself, without its header; something unlike any other outside of CPython.

    Asking a generator for its state makes 624 numbers, 10 to 100 µs. Where none of its bytes has changed, it is
    what it was.
    """
    if sys.implementation.name != "cpython":
        return object()
    from ctypes import string_at

    return string_at(id(thing) + object.__basicsize__, type(thing).__basicsize__ - object.__basicsize__)


def _python() -> bytes | None:
    generator: Any = random._inst
    if type(generator) is not random.Random:
        return None
    seen = _memory(generator)
    known, written = _latest_written.get("python", (None, b""))
    # The number that `gauss` keeps for its next call lies outside of the object.
    if seen != known or getattr(generator, "gauss_next", None) is not None:
        state = random.Random.getstate(generator)
        written = marshal.dumps(state, 2)
        _latest_written["python"] = seen if state[2] is None else None, written
    return written


def _numpy() -> bytes | None:
    module: Any = sys.modules.get("numpy.random.mtrand")
    generator: Any = getattr(module, "_rand", None)
    if module is None or type(generator) is not module.RandomState:
        return None
    seen = _numpy_memory(generator)
    known, written = _latest_written.get("numpy", (None, b""))
    if seen != known:
        name, key, position, has_gauss, gauss = generator.get_state()
        written = b"%s:%d:%d:%s:" % (name.encode(), position, has_gauss, float(gauss).hex().encode())
        written += key.tobytes()
        _latest_written["numpy"] = seen, written
    return written


def _numpy_memory(generator: Any) -> object:
    # Beside the generator itself, which has what `normal` keeps for its next call, that of its source.
    source = generator._bit_generator
    if type(source).__name__ != "MT19937":
        return object()
    from ctypes import string_at

    return _memory(generator), string_at(source.ctypes.state_address, _MT19937_BYTES)


def _torch() -> bytes | None:
    torch: Any = sys.modules.get("torch")
    generator: Any = getattr(torch, "default_generator", None)
    if torch is None or generator is None or type(generator) is not torch._C.Generator:
        return None
    state: bytes = generator.get_state().numpy().tobytes()
    return state
