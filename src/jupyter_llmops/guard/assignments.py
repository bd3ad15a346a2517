"""Secrets by their name: ``api_key = "…"``, ``os.environ["X_TOKEN"] = "…"``, ``export X_TOKEN=…``, ``--token …``."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterator
from functools import lru_cache

# Every secret-looking name holds one of these; finding them costs far less than an expression.
STEMS = ("pass", "pwd", "secret", "token", "key", "credential", "auth", "connection", "salt", "signature", "cookie",
         "dsn", "pat")  # fmt: skip

# Names that hold a secret whatever the value looks like …
_STRONG = re.compile(
    r"(?:pass(?:word|wd|phrase|code)s?|pwd|secrets?(?:[_-]?(?:access[_-]?)?key)?|api[_-]?(?:key|token)s?|"
    r"(?:access|auth|bearer|refresh|session|oauth|personal|bot|hub|hf|github|login)[_-]?token|"
    r"(?:access|private|account|encryption|signing|master|shared|storage|license|subscription)[_-]?key|"
    r"credentials?|connection[_-]?string)(?:[_-]?(?:\d{1,2}|old|new|value))?",
    re.IGNORECASE,
)
# … and names that hold one when the value looks drawn at random, or when they are set in the environment.
_WEAK = re.compile(
    r"(?:tokens?|keys?|auth(?:orization)?|pat|salt|signature|dsn|cookie)(?:[_-]?(?:\d{1,2}|old|new|value))?",
    re.IGNORECASE,
)
_NAME_CHARACTERS = string.ascii_letters + string.digits + "_-"
_NAME_AFTER = re.compile(r"[A-Za-z0-9_-]*")

_STRING = re.compile(
    r"\s*\(?\s*(?:[\w.]{0,30}(?:Secret|SecretStr|str|bytes)\(\s*)?[rbfuRBFU]{0,2}"
    r'(?:\\*"""(?P<t>.*?)\\*"""|\\*\'\'\'(?P<u>.*?)\\*\'\'\'|(?P<q>\\*["\'])(?P<v>[^\n]*?)(?<!\\)(?P=q))',
    re.DOTALL,
)
_SIGN = re.compile(
    r"\\*[\"'`]?\s*[\])]{0,2}\s*"
    r"(?:(?P<assign>(?::\s*[A-Za-z_][\w\[\], |.\"']{0,40}?)?=(?!=)|:=)|(?P<equal>[=!]=)|(?P<pair>:(?!:)|=>)|"
    r"(?P<tuple>(?:,\s*\w+){1,5}\s*=(?!=))|(?P<comma>,))"
)
_ANOTHER = re.compile(r"\s*(?P<sign>,|\+|\\\n)?(?=\s*[rbfuRBFU]{0,2}\\*[\"'])")
_ENVIRONMENT_BEFORE = re.compile(
    r"(?:environ|putenv|setenv|setdefault|set_key|secrets)\W{0,4}[\w.]{0,20}\W{0,4}\Z", re.IGNORECASE
)

_BARE_VALUE = r"(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s'\"`;&|<>()]+)"
_AFTER_MAGIC = re.compile(r"(?:=|[ \t]+=?[ \t]*)(?P<value>[^\n]+)")
_AFTER_EQUALS = re.compile(r"=(?!=)" + _BARE_VALUE)
_AFTER_OPTION = re.compile(r"(?:=|[ \t]+)(?!-)" + _BARE_VALUE)
_AFTER_COLON = re.compile(r":[ \t]+(?P<value>[^\s'\"`;&|<>()\[\]{},\\]{6,})[ \t]*(?=$|[\"'\\])", re.MULTILINE)
_MAGIC_BEFORE = re.compile(r"%(?:set_)?env[ \t]+\Z")
_EXPORT_BEFORE = re.compile(
    r"(?:^|[\s!;&|\"'`]|\\[nrt])(?:export|set|setx|-e|--env|--build-arg|ENV|ARG)[ \t=]+\Z"
)
_WORD_BEFORE = re.compile(r"(?:^|[\s!;&|\"'`]|\\[nrt])\Z")

_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\$\{?\w+\}?|\{+[^{}]*\}+|%\(?\w*\)?s|(.)\1*|\.{2,}.*|none|null|true|false|str|string|text|default|"
    r"required|optional|(?:https?|file)://[^@]*|\[redacted:[^\]]*\]|"
    # the name of the variable that holds it is not the secret, nor is the name of the field
    r"(?-i:[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|PASSWD|PWD))|"
    r"passwords?|passwd|secrets?|tokens?|keys?|api[_-]?keys?|access[_-]?(?:token|key)|credentials?|auth",
    re.IGNORECASE,
)
_EXPRESSION = re.compile(r"[\[\]{}(),]|^[A-Za-z_]\w*\.")


def find_assignments(text: str, lowered: str) -> Iterator[tuple[int, int]]:
    """Yield the spans (start, end) of values whose name says that they are secret.

    Parameters
    ----------
    text : str
        Source of a cell, a shell command, a configuration, or JSON that holds one of them escaped.
    lowered : str
        The same in lower case, character by character.
    """
    seen: set[int] = set()
    for stem in STEMS:
        place = lowered.find(stem)
        while place >= 0:
            after = _NAME_AFTER.match(text, place)
            end = after.end() if after else place
            if end not in seen:
                seen.add(end)
                before = text[max(0, place - 64) : place]
                start = place - len(before) + len(before.rstrip(_NAME_CHARACTERS))
                if start and start < place and text[start - 1] == "\\":
                    start += 1  # the n of an escaped newline
                strength = name_strength(text[start:end])
                if strength:
                    yield from _values(text, start, end, strength)
            place = lowered.find(stem, end)


@lru_cache(maxsize=4096)
def name_strength(name: str) -> int:
    """Return how much a name says that its value is secret: 2 always, 1 if it looks random, 0 nothing.

    Parameters
    ----------
    name : str
        Of a variable, a parameter, an option (``--api-key``) or a field.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-_"))
    parts = re.split(r"[_-]", snake)
    for size in range(1, min(4, len(parts)) + 1):
        if _STRONG.fullmatch("_".join(parts[-size:])):
            return 2
    match = re.search(_STRONG.pattern + r"\Z", snake, re.IGNORECASE)
    if match and (match.start() == 0 or match.group().lower() not in {"pwd", "pwds"}):
        return 2  # dbpassword, MYAPIKEY
    if any(_WEAK.fullmatch("_".join(parts[-size:])) for size in range(1, min(2, len(parts)) + 1)):
        # HF_TOKEN = "…" is a secret; CACHE_KEY = "…" is most often none
        return 2 if snake.isupper() and len(parts) > 1 and parts[-1] in ("TOKEN", "PAT") else 1
    return 0


def looks_random(value: str) -> bool:
    """Return whether a text looks drawn at random rather than written by a person."""
    if len(value) < 12 or any(character.isspace() for character in value):
        return False
    core = value.rstrip("0123456789")  # "layer_norm_12" is a name, "a3f9…" is not
    digits = any(character.isdigit() for character in core)
    cases = any(c.islower() for c in value) and any(c.isupper() for c in value)
    if not (digits or (cases and len(value) >= 20)):
        return False
    return entropy(value) >= (2.8 if digits else 3.5)


def entropy(value: str) -> float:
    """Return the Shannon entropy of a text's characters, bits per character."""
    size = len(value)
    shares = [value.count(character) / size for character in set(value)]
    return -sum(share * math.log2(share) for share in shares)


def _values(text: str, start: int, end: int, strength: int) -> Iterator[tuple[int, int]]:
    sign = _SIGN.match(text, end)
    literal = _STRING.match(text, sign.end()) if sign else None
    if sign and literal:
        yield from _quoted(text, start, strength, sign, literal)
    else:
        yield from _bare(text, start, end, strength)


def _quoted(
    text: str, start: int, strength: int, sign: re.Match[str], literal: re.Match[str]
) -> Iterator[tuple[int, int]]:
    before = text[max(0, start - 80) : start]
    in_environment = _ENVIRONMENT_BEFORE.search(before) is not None
    if in_environment:
        strength = 2
    elif sign["comma"]:
        strength = min(strength, 1)  # a list of names: ["user", "password", "email"]
    # user, password = "bob", "…": every text on the right may be the one
    several = sign["tuple"] is not None or (sign["assign"] is not None and before.rstrip().endswith(","))
    while True:
        span = next(literal.span(group) for group in ("v", "t", "u") if literal[group] is not None)
        if is_secret(text[slice(*span)], strength, 3 if in_environment else 4):
            yield span
        another = _ANOTHER.match(text, literal.end())
        following = _STRING.match(text, another.end()) if another else None
        if another is None or following is None or (another["sign"] == "," and not several):
            return
        if (
            another["sign"] is None
            and "\n" in text[literal.end() : following.end()]
            and "(" not in literal.group()
        ):
            return  # the next line's own literal
        literal = following


def _bare(text: str, start: int, end: int, strength: int) -> Iterator[tuple[int, int]]:
    """Yield a value that stands without quotes: in a shell, a magic, YAML, a header."""
    name = text[start:end]
    before = text[max(0, start - 24) : start]
    if _MAGIC_BEFORE.search(before):
        match, strength = _AFTER_MAGIC.match(text, end), 2
    elif name.startswith("--"):
        match = _AFTER_OPTION.match(text, end)
    elif _EXPORT_BEFORE.search(before):
        match, strength = _AFTER_EQUALS.match(text, end), 2
    elif not _WORD_BEFORE.search(before):
        return
    else:
        match = _AFTER_EQUALS.match(text, end)
        # In Python NAME=expression: only what is written like a variable of the environment.
        if match and (not name.isupper() or _EXPRESSION.search(match["value"])):
            return
        if not match:
            match = _AFTER_COLON.match(text, end)
            if match and not any(character.isdigit() for character in match["value"]):
                return  # password: str
    if match is None:
        return
    left, right = match.span("value")
    value = match["value"].rstrip()
    right = left + len(value)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        left, right = left + 1, right - 1
    if is_secret(text[left:right], strength, 3):
        yield left, right


def is_secret(value: str, strength: int, shortest: int) -> bool:
    """Return whether a value under a secret-looking name is the secret, and no placeholder.

    Parameters
    ----------
    value : str
        The text under the name.
    strength : int
        Of the name, from `name_strength`; under 2 the value must look random too.
    shortest : int
        Characters that it has at least.
    """
    if "[redacted:" in value or _PLACEHOLDER.fullmatch(value.strip()):
        return False
    if strength < 2:
        return looks_random(value)
    return len(value) >= shortest and not (value.isdigit() and len(value) < 6)
