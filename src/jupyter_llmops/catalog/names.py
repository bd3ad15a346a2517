"""Which names things in the catalog may have."""

from __future__ import annotations

import unicodedata

from jupyter_llmops.errors import UsageError

MAX_NAME_LENGTH = 200

# A name that is also a sub-command could never be typed after its magic.
RESERVED_NAMES = frozenset(
    {
        "add", "alias", "aliases", "calibrate", "describe", "diff", "export", "find", "forget", "help", "history",
        "import", "list", "load", "migrate", "new", "promote", "publish", "pull", "push", "remove", "restore",
        "retire", "run", "scan", "search", "show", "unload", "verify",
    }
)  # fmt: skip

# "@" separates a name from its version or alias: greeting@3.
_FORBIDDEN = frozenset("@")


def check_name(noun: str, name: str) -> str:
    """Return `name` in Unicode's composed form (NFC), or say what is wrong with it.

    Parameters
    ----------
    noun : str
        What is named, for the message: "prompt", "model".
    name : str
        1 to 200 printable characters without ``@``, not a sub-command's word.

    Raises
    ------
    UsageError
        It is not valid; the hint holds a corrected name.
    """
    composed = unicodedata.normalize("NFC", name)
    problem = _problem(noun, composed)
    if problem:
        raise UsageError(problem, f"Use for example {_corrected(noun, composed)!r}.")
    return composed


def _problem(noun: str, name: str) -> str:
    if not name.strip():
        return f"The name of a {noun} can't be empty."
    if len(name) > MAX_NAME_LENGTH:
        return f"The name of a {noun} has at most {MAX_NAME_LENGTH} characters; this one has {len(name)}."
    if name.casefold() in RESERVED_NAMES:
        return f"{name!r} is a sub-command, so a {noun} can't be named that."
    if name != name.strip():
        return f"The name {name!r} of a {noun} begins or ends with a space."
    if name.startswith("-"):
        return f"The name {name!r} of a {noun} begins with '-', so it would be read as an option."
    bad = sorted({c for c in name if not c.isprintable() or c in _FORBIDDEN})
    if bad:
        shown = ", ".join(repr(c) for c in bad[:3])
        return f"The name {name[:60]!r} of a {noun} holds what a name can't hold: {shown}."
    return ""


def _corrected(noun: str, name: str) -> str:
    if name.strip().casefold() in RESERVED_NAMES:
        return f"{name.strip()}-{noun.rsplit(maxsplit=1)[-1]}"
    kept = "".join(c if c.isprintable() and c not in _FORBIDDEN else "-" for c in name)
    kept = kept.strip().strip("-").strip()[:MAX_NAME_LENGTH].strip()
    if kept.casefold() in RESERVED_NAMES:
        return f"{kept}-{noun.rsplit(maxsplit=1)[-1]}"
    return kept or f"my-{noun.rsplit(maxsplit=1)[-1]}"
