"""A second look for secrets, with the detectors of detect-secrets: slower than the kernel's, so only the agent looks.

Left out are its detectors of random-looking texts and of addresses: digests, ids and versions look like
that, and are what records are full of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_llmops.guard.assignments import is_secret
from jupyter_llmops.guard.redaction import Redaction

if TYPE_CHECKING:
    from detect_secrets.plugins.base import BasePlugin

_LEFT_OUT = frozenset({"Base64 High Entropy String", "Hex High Entropy String", "Public IP (ipv4)"})
_KEYWORD = "Secret Keyword"
_PRIVATE_KEY = "Private Key"
# Its expressions take time with the square of a line; what is longer is looked at in overlapping pieces.
_LONGEST_LINE = 4096
_OVERLAP = 512
# Shorter ones would be cut out of ordinary words.
_SHORTEST = 6


class Detector:
    """The detectors, loaded when they are first needed (0.3 s); 2 to 5 ms for 14 lines."""

    def find(self, text: str) -> tuple[tuple[str, str], ...]:
        """Return what looks like secrets in a text, as (kind, value), each once.

        Parameters
        ----------
        text : str
            Of any length. What is cut out already, ``[redacted:KIND]``, is none.
        """
        found: dict[tuple[str, str], None] = {}
        for line in _lines(text):
            for kind, plugin in self._plugins:
                for secret in plugin.analyze_line("cell.py", line):
                    value = secret.secret_value or ""
                    if self._counts(kind, value, line):
                        found[_slug(kind), value] = None
        return tuple(found)

    def redact(self, text: str) -> Redaction:
        """Return a text without what `find` finds in it, and the kinds of that."""
        found = self.find(text)
        if not found:
            return Redaction(text, ())
        if any(kind == _slug(_PRIVATE_KEY) for kind, _ in found):
            # Only its first line is known, and the others are the secret.
            return Redaction("[redacted:private-key]", tuple(dict.fromkeys(kind for kind, _ in found)))
        for kind, value in sorted(found, key=lambda one: -len(one[1])):
            text = text.replace(value, f"[redacted:{kind}]")
        return Redaction(text, tuple(dict.fromkeys(kind for kind, _ in found)))

    @cached_property
    def _plugins(self) -> list[tuple[str, BasePlugin]]:
        from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

        plugins: Mapping[str, type[BasePlugin]] = get_mapping_from_secret_type_to_class()
        return [(kind, make()) for kind, make in sorted(plugins.items()) if kind not in _LEFT_OUT]

    @cached_property
    def _is_none(self) -> tuple[Callable[..., Any], ...]:
        from detect_secrets.filters import heuristic

        return (
            heuristic.is_sequential_string,
            heuristic.is_potential_uuid,
            heuristic.is_templated_secret,
            heuristic.is_prefixed_with_dollar_sign,
            heuristic.is_not_alphanumeric_string,
        )

    def _counts(self, kind: str, value: str, line: str) -> bool:
        if len(value) < _SHORTEST or "redacted:" in value:
            return False
        if kind == _PRIVATE_KEY:
            return True
        if any(is_none(value) for is_none in self._is_none):
            return False
        if kind != _KEYWORD:
            return True
        from detect_secrets.filters.heuristic import is_indirect_reference

        return is_secret(value, 2, _SHORTEST) and not is_indirect_reference(line)


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if len(line) <= _LONGEST_LINE:
            if len(line) >= _SHORTEST:
                yield line
            continue
        for start in range(0, len(line), _LONGEST_LINE - _OVERLAP):
            yield line[start : start + _LONGEST_LINE]


def _slug(kind: str) -> str:
    return kind.lower().replace(" ", "-").replace("(", "").replace(")", "")
