"""Secrets by their name: ``api_key = "…"``, ``os.environ["X_TOKEN"] = "…"``, ``export X_TOKEN=…``, ``--token …``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

# Names that hold a secret whatever the value looks like …
_STRONG = (
    r"pass(?:word|wd|phrase|code)s?|pwd|secrets?(?:[_-]?(?:access[_-]?)?key)?|"
    r"api[_-]?(?:key|token)s?|(?:access|auth|bearer|refresh|session|oauth|personal|bot|hub|hf|github|login)[_-]?token|"
    r"(?:access|private|account|encryption|signing|master|shared|storage|license|subscription)[_-]?key|"
    r"credentials?|connection[_-]?string"
)
# … and names that hold one when the value looks drawn at random, or when they are set in the environment.
_WEAK = r"tokens?|keys?|auth|pat|salt|signature|dsn|cookie|pin"

_NAME = (
    rf"(?:(?P<strong>{_STRONG})|(?P<weak>(?:(?<![A-Za-z])(?:{_WEAK})|(?-i:(?<=[a-z])(?:Token|Key|Auth|Pat)))))"
    r"(?:[_-]?(?:\d{1,2}|old|new|value|string))?"
)
_STRING = r'(?:[rbfu]{0,2}(?:\\*"""(?P<t>.*?)\\*"""|\\*\'\'\'(?P<u>.*?)\\*\'\'\'|(?P<q>\\*["\'])(?P<v>[^\n]*?)(?<!\\)(?P=q)))'
_ANNOTATION = r":\s*[A-Za-z_][\w\[\], |.\"']{0,40}"
_QUOTED = re.compile(
    _NAME
    + r"\s*\\*[\"'`]?\s*[\])]{0,2}\s*"
    + rf"(?P<sign>(?:{_ANNOTATION})?(?<![=!<>])=(?!=)|[=!]=|:=?|=>|,\s*\w+(?:\s*,\s*\w+){{0,4}}\s*=(?!=)|,)"
    + r"\s*\(?\s*(?:[\w.]{0,30}(?:Secret|SecretStr|str|bytes)\(\s*)?"
    + _STRING,
    re.IGNORECASE | re.DOTALL,
)
_NEXT = re.compile(r"\s*(?P<sign>,|\+|\\\n)?\s*" + _STRING, re.IGNORECASE | re.DOTALL)

_ENVIRONMENT_CALL = re.compile(
    r"(?:environ|putenv|setenv|setdefault|set_key|secrets)\W{0,4}[\w.]{0,20}\W{0,4}$", re.IGNORECASE
)
_LEFT_OF_NAME = re.compile(r"[A-Za-z0-9_]*$")

_BARE_VALUE = r"(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s'\"`;&|<>()]+)"
_BARE = (
    # %env NAME=VALUE, %env NAME VALUE, %set_env NAME VALUE
    re.compile(r"%(?:set_)?env[ \t]+(?P<name>\w+)(?:=|[ \t]+=?[ \t]*)(?P<value>[^\n]+)"),
    # export NAME=VALUE, NAME=VALUE on a line of its own or before a command
    re.compile(r"(?:^|(?<=[\s!;&|\"'`]))(?:export[ \t]+|set[ \t]+|setx[ \t]+)?(?P<name>[A-Za-z_]\w{1,80})=" + _BARE_VALUE, re.MULTILINE),
    # --token VALUE, --api-key=VALUE
    re.compile(r"(?<![\w-])--(?P<name>[A-Za-z][A-Za-z0-9_-]{1,60})(?:=|[ \t]+)(?!-)" + _BARE_VALUE),
    # password: VALUE in YAML, X-Api-Key: VALUE in a header
    re.compile(r"(?:^|(?<=[\s\"']))(?P<name>[A-Za-z][A-Za-z0-9_.-]{1,60}):[ \t]+(?P<value>[^\s'\"`;&|<>()\[\]{},]{6,})[ \t]*(?=$|[\"'])", re.MULTILINE),
)  # fmt: skip

_SECRET_NAME = re.compile(rf"(?:{_STRONG}|(?:^|[^A-Za-z])(?:{_WEAK}))(?:[_-]?\d+)?$", re.IGNORECASE)
_STRONG_NAME = re.compile(rf"(?:{_STRONG})(?:[_-]?\d+)?$", re.IGNORECASE)
KEYWORDS = ("pass", "secret", "pwd", "token", "key", "credential", "auth", "salt", "signature", "dsn",
            "cookie", "connection", "pat", "pin")  # fmt: skip
_OPERATORS = ("=", ":", ",", "--", "%env ", "set_env ")

_PLACEHOLDER = re.compile(
    r"<[^<>]*>|\$\{?\w+\}?|\{+[^{}]*\}+|%\(?\w*\)?s|(.)\1*|\.{2,}.*|none|null|true|false|str|string|text|default|"
    r"required|optional|(?:https?|file)://[^@]*|\[redacted:[^\]]*\]|"
    # the name of a variable that holds it is not the secret
    r"(?-i:[A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?|PASSWD|PWD))|"
    rf"(?:{_STRONG}|{_WEAK})",
    re.IGNORECASE,
)


def find_assignments(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans (start, end) of values whose name says that they are secret.

    Parameters
    ----------
    text : str
        Source of a cell, a shell command, a configuration, or JSON that holds one of them escaped.
    """
    for match in _QUOTED.finditer(text):
        yield from _quoted(text, match)
    for pattern in _BARE:
        for match in pattern.finditer(text):
            span = _bare(match, pattern is _BARE[0])
            if span:
                yield span


def is_secret_name(name: str) -> bool:
    """Return whether a variable, a parameter or an option of that name is likely to hold a secret."""
    return _SECRET_NAME.search(_snake(name)) is not None


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
    return -sum(
        (count := value.count(character)) / size * math.log2(count / size) for character in set(value)
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)


def _quoted(text: str, match: re.Match[str]) -> Iterator[tuple[int, int]]:
    start = match.start()
    before = text[max(0, start - 80) : start]
    left = _LEFT_OF_NAME.search(before)
    lead = left.group() if left else ""
    before = before[: len(before) - len(lead)]
    name = lead + match.group("strong" if match["strong"] else "weak")
    in_environment = _ENVIRONMENT_CALL.search(before) is not None
    sign = match["sign"]
    strong = bool(match["strong"]) or in_environment
    if (
        match["weak"]
        and name.isupper()
        and "_" in name
        and match["weak"].lower().startswith(("token", "pat"))
    ):
        strong = True  # HF_TOKEN = "…"; CACHE_KEY = "…" is most often no secret
    if sign == "," and not in_environment:
        strong = False  # a list of names: ["user", "password", "email"]
    pair = len(sign) > 1 if sign.startswith(",") else before.rstrip().endswith(",") and sign == "="
    shortest = 3 if in_environment else 4
    while True:
        value, span = _string(match)
        if _is_secret(value, strong, shortest):
            yield span
        following = _NEXT.match(text, match.end())
        if following is None or (following["sign"] == "," and not pair):
            return
        if following["sign"] is None and "\n" in text[match.end() : following.start("q")] and not pair:
            return  # the next line's own string
        match = following


def _string(match: re.Match[str]) -> tuple[str, tuple[int, int]]:
    for group in ("v", "t", "u"):
        if match[group] is not None:
            return match[group], match.span(group)
    return "", (0, 0)


def _bare(match: re.Match[str], magic: bool) -> tuple[int, int] | None:
    name = match["name"]
    strong = _STRONG_NAME.search(_snake(name)) is not None
    if not strong and not is_secret_name(name):
        return None
    start, end = match.span("value")
    value = match["value"]
    if value[:1] in "\"'" and value[:1] == value[-1:] and len(value) > 1:
        start, end, value = start + 1, end - 1, value[1:-1]
    option = match.group().startswith("--")
    if match.group().lstrip().startswith(("export", "set")) or magic:
        strong = True
    elif ":" in match.group()[len(name) : len(name) + 1]:
        strong = strong and any(character.isdigit() for character in value)
    elif not option:
        # In Python NAME=expression: only what is written like a variable of the environment.
        strong = (
            name.isupper() and (strong or "_" in name) and not re.search(r"[\[\]{}(),]|^[A-Za-z_]+\.", value)
        )
        if not name.isupper():
            return None
    return (start, end) if _is_secret(value, strong, 3) else None


def _is_secret(value: str, strong: bool, shortest: int) -> bool:
    if "[redacted:" in value or _PLACEHOLDER.fullmatch(value.strip()):
        return False
    if not strong:
        return looks_random(value)
    return len(value) >= shortest and not (value.isdigit() and len(value) < 6)
