"""The one warning of this room, printed as one line."""

from __future__ import annotations

import warnings


class CacheWarning(UserWarning):
    """An item was not used, or answers can't be stored; the computing goes on."""


def warn(message: str) -> None:
    """Show a CacheWarning in one line, without a line of this package's source under it."""
    warnings.warn_explicit(
        message, CacheWarning, filename="jupyter_llmops", lineno=0, module="jupyter_llmops.cache"
    )
