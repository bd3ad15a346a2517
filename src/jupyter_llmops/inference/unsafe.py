"""Model files that could run code when they are loaded: refused unless this user allowed that model by name."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from jupyter_llmops.errors import UnsafeModelError

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
# What transformers imports when it is told to: "auto_map" in any of these names a class of a Python file.
_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
_allowed: frozenset[str] = frozenset()


def allow(names: Iterable[str] = ()) -> None:
    """Set for this process which models may run code of their own.

    Parameters
    ----------
    names : iterable of str
        Names or folders of models, as in the setting ``LLMOps.allow_unsafe_models``.
    """
    global _allowed  # noqa: PLW0603 - one user, one policy: no caller that loads a model can forget it
    _allowed = frozenset(names)


def allowed_models() -> list[str]:
    """Return which models may run code of their own, for a process that this one starts."""
    return sorted(_allowed)


def is_allowed(*names: str) -> bool:
    """Return whether a model of one of these names or folders may run code of its own."""
    return bool(_allowed) and any(name and (name in _allowed or _same_place(name)) for name in names)


def unsafe_parts(folder: Path) -> tuple[str, ...]:
    """Return what of a model's folder could run code: "pickle", "remote code".

    Parameters
    ----------
    folder : Path
        In the layout of transformers.
    """
    parts = []
    if not any(folder.glob("*.safetensors")) and any(p.suffix in PICKLE_SUFFIXES for p in folder.iterdir()):
        parts.append("pickle")
    if any(_names_code(folder / name) for name in _CONFIGS):
        parts.append("remote code")
    return tuple(parts)


def refusal(name: str, parts: Iterable[str]) -> UnsafeModelError:
    """Return the error of a model that could run code and was not allowed."""
    what = {
        "pickle": "its weights are only there as a pickle",
        "remote code": "it brings Python code of its own (auto_map)",
    }
    return UnsafeModelError(
        f"The model {name!r} is refused, as loading it could run its author's code: "
        f"{' and '.join(what[part] for part in parts)}.",
        "Ask for it as safetensors that transformers knows; or, if you trust its author with this machine, "
        f"type %config LLMOps.allow_unsafe_models = [{name!r}]",
    )


def _names_code(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
        return '"auto_map"' in text and bool(json.loads(text).get("auto_map"))
    except (OSError, ValueError, AttributeError):
        return False


def _same_place(name: str) -> bool:
    path = Path(name)
    return path.is_absolute() and any(
        Path(allowed).expanduser().resolve() == path.resolve() for allowed in _allowed if "/" in allowed
    )
