"""Secrets by their value: what secret-looking variables of the environment hold."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

SHORTEST_VALUE = 6

_NAME = re.compile(
    r"(?:^|_)(?:API|ACCESS|AUTH)?_?(?:KEYS?|TOKENS?|SECRETS?|PASS|PASSWORDS?|PASSWD|PASSPHRASE|PWD|PASSCODE|"
    r"CREDENTIALS?|CREDS?|PRIVATE|AUTH|PAT|DSN|COOKIE|SALT|JWT|BEARER|SIGNATURE|CONNECTION_?STRING|WEBHOOK)(?:_|\d|$)"
    r"|(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$"
)
_ORDINARY = frozenset(
    ("false", "true", "enabled", "disabled", "default", "public", "private", "localhost", "optional",
     "required", "notset", "development", "production", "testing", "password", "secret", "changeme")
)  # fmt: skip


def is_secret_variable(name: str) -> bool:
    """Return whether a variable of that name is likely to hold a secret."""
    return _NAME.search(name.upper()) is not None


def is_distinctive(value: str) -> bool:
    """Return whether cutting a value out of every text would not cut ordinary words and numbers."""
    if len(value) < SHORTEST_VALUE or value.lower() in _ORDINARY:
        return False
    if value.replace(".", "").replace("-", "").isdigit() and len(value) < 8:
        return False
    return not (value.startswith(("/", "~", "./")) and _is_file(value))


def _is_file(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a path, no such home
        return False


def secret_values(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values that must not be kept, each with the name of its variable.

    Parameters
    ----------
    environ : mapping
        The environment. Left out are values under 6 characters, paths of existing files, and
        words and numbers so common that cutting them out would damage ordinary text.
    """
    values: dict[str, str] = {}
    for name, value in environ.items():
        if is_secret_variable(name) and is_distinctive(value.strip()):
            values.setdefault(value.strip(), name)
    return values


def spellings(value: str) -> tuple[str, ...]:
    """Return how a value may be written in a text: as it is, escaped in JSON or Python, in a URL."""
    json_form = json.dumps(value)[1:-1]
    forms = [
        value,
        json_form,
        json.dumps(value, ensure_ascii=False)[1:-1],
        json.dumps(json_form)[1:-1],
        repr(value)[1:-1],
        urllib.parse.quote(value, safe="", errors="replace"),
        urllib.parse.quote_plus(value, errors="replace"),
    ]
    return tuple(dict.fromkeys(forms))
