"""Small models first: a classic classifier answers what it is sure of, a language model the rest."""

from __future__ import annotations

from jupyter_llmops.cascade.specification import (
    DEFAULT_ANSWER,
    DEFAULT_INSTRUCTION,
    build_cascade,
    parse_stages,
)

__all__ = ["DEFAULT_ANSWER", "DEFAULT_INSTRUCTION", "build_cascade", "parse_stages"]
