"""Secrets by reference: the catalog holds where a key is, this module alone reads it."""

from __future__ import annotations

import os
import re

from jupyter_llmops.errors import InferenceError, MissingDependencyError, UsageError

_VARIABLE = re.compile(r"env:([A-Z_][A-Z0-9_]*)")
_KEYRING = re.compile(r"keyring:([^/\s]{1,100})/([^\s]{1,100})")


def check_reference(reference: str) -> str:
    """Return a reference to a secret, or say what is wrong with it; nothing is read.

    Parameters
    ----------
    reference : str
        ``env:NAME`` (capitals, digits and ``_``) or ``keyring:SERVICE/USER``; empty for none.

    Raises
    ------
    UsageError
        It is neither. It may be the secret itself, so the message does not repeat it.
    """
    if reference and not _VARIABLE.fullmatch(reference) and not _KEYRING.fullmatch(reference):
        raise UsageError(
            "A credential is the name of a place, never the secret itself.",
            "Write env:NAME for an environment variable, or keyring:SERVICE/USER.",
        )
    return reference


def secret(reference: str) -> str:
    """Return the secret that a reference names; keep it out of records, messages and files.

    Parameters
    ----------
    reference : str
        As in `check_reference`.

    Raises
    ------
    InferenceError
        Nothing is there; the message names the place.
    MissingDependencyError
        It is in a keyring and the keyring package is not installed.
    UsageError
        It is no reference.
    """
    if not check_reference(reference):
        return ""
    variable = _VARIABLE.fullmatch(reference)
    if variable:
        found, where = os.environ.get(variable[1], ""), f"environment variable {variable[1]}"
        hint = f"Set {variable[1]} in the environment that Jupyter starts in."
    else:
        found, where = _from_keyring(reference), f"keyring entry {reference.removeprefix('keyring:')}"
        hint = "Store it with: keyring set SERVICE USER"
    if not found:
        raise InferenceError(f"The {where} is empty or not set.", hint)
    if not found.isascii() or not found.isprintable() or " " in found:
        raise InferenceError(f"The {where} does not hold a key: keys have no spaces or line ends.", hint)
    return found


def _from_keyring(reference: str) -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise MissingDependencyError("A credential in the keyring", "keyring") from None
    place = _KEYRING.fullmatch(reference)
    assert place is not None
    try:
        return keyring.get_password(place[1], place[2]) or ""
    except (KeyringError, RuntimeError) as error:
        raise InferenceError(
            f"The keyring can't be read ({type(error).__name__}).",
            "Use an environment variable instead: env:NAME.",
        ) from None
