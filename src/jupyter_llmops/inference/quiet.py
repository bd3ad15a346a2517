"""Silence for libraries that print progress bars and warnings of their own."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

_LOGGERS = ("transformers", "bitsandbytes", "huggingface_hub", "accelerate", "gguf", "torch")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back progress bars, log lines and Python warnings; on leaving all is as it was."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    bars = _bars_on()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        _switch_bars(dict.fromkeys(bars, False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _switch_bars(bars)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _bars_on() -> dict[str, bool]:
    on = {}
    if "huggingface_hub" in sys.modules:
        from huggingface_hub.utils import are_progress_bars_disabled

        on["hub"] = not are_progress_bars_disabled()
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        on["transformers"] = transformers_logging.is_progress_bar_enabled()
    return on


def _switch_bars(on: dict[str, bool]) -> None:
    if "transformers" in on:
        from transformers.utils import logging as transformers_logging

        if on["transformers"]:
            transformers_logging.enable_progress_bar()
        else:
            transformers_logging.disable_progress_bar()
    if "hub" in on:  # last: the switch of transformers turns this one too
        from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

        (enable_progress_bars if on["hub"] else disable_progress_bars)()
