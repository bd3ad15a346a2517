"""The model card and the licence beside a model's files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.inference.scan.reading import one_line, text

_MOST_CARD_BYTES = 4 << 20
_MOST_FRONT_BYTES = 64 << 10
_FRONT_MATTER = re.compile(r"\A\ufeff?---\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
# Only what is beyond doubt from the first lines of the text; anything else stays unknown.
_LICENCE_TEXTS = (
    (re.compile(r"Apache License\s+Version 2\.0"), "Apache-2.0"),
    (re.compile(r"\bMIT License\b"), "MIT"),
    (re.compile(r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3"), "AGPL-3.0-only"),
    (re.compile(r"GNU LESSER GENERAL PUBLIC LICENSE\s+Version 3"), "LGPL-3.0-only"),
    (re.compile(r"GNU GENERAL PUBLIC LICENSE\s+Version 3"), "GPL-3.0-only"),
    (re.compile(r"Mozilla Public License,? [Vv]ersion 2\.0"), "MPL-2.0"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """What a model card says; empty where it says nothing.

    Parameters
    ----------
    license : str
        SPDX where it is one, else as the card writes it.
    base : str
        The model that it was made from.
    task : str
        E.g. ``text-generation``.
    """

    license: str = ""
    base: str = ""
    task: str = ""


def read_card(folder: Path) -> Card:
    """Return what README.md and the licence file of a folder say; what can't be read says nothing."""
    front = _front_matter(folder / "README.md")
    said = text(front.get("license"))
    if said.casefold() in {"other", "unknown"}:
        said = text(front.get("license_name")) or said
    return Card(
        license=spdx(said) or _license_of_text(folder),
        base=_first(front.get("base_model")),
        task=text(front.get("pipeline_tag")),
    )


def spdx(said: str) -> str:
    """Return a licence in SPDX's spelling (``apache-2.0`` becomes ``Apache-2.0``), others unchanged."""
    if not said:
        return ""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return str(canonicalize_license_expression(said))
    except InvalidLicenseExpression:
        return one_line(said)


def _front_matter(path: Path) -> dict[str, Any]:
    import yaml

    try:
        if not path.is_file() or path.stat().st_size > _MOST_CARD_BYTES:
            return {}
        found = _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace"))
        # Aliases of YAML can make a small text huge; a card has no use for them.
        if not found or len(found[1]) > _MOST_FRONT_BYTES or re.search(r"(^|[\s\[,])[&*]\w", found[1]):
            return {}
        front = yaml.safe_load(found[1])
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return front if isinstance(front, dict) else {}


def _first(value: object) -> str:
    return text(value[0]) if isinstance(value, list) and value else text(value)


def _license_of_text(folder: Path) -> str:
    for name in _LICENCE_FILES:
        path = folder / name
        try:
            if not path.is_file():
                continue
            with path.open("rb") as file:
                start = file.read(2000).decode("utf-8", "replace")
        except OSError:
            continue
        for pattern, identifier in _LICENCE_TEXTS:
            if pattern.search(start):
                return identifier
    return ""
