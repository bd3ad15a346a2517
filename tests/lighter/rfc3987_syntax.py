"""Stands before the package of this name, which builds forty parsers when it is imported, until one is wanted.

jsonschema imports it, and so each Jupyter server and each run of a notebook: two seconds of processor time, for
checks of international addresses that no schema here asks for. Whoever asks gets the package's own answer.
"""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType


def is_valid_syntax(term: str, value: str) -> bool:
    """Return whether a value has the syntax of a term of RFC 3987."""
    return bool(_package().is_valid_syntax(term, value))


@cache
def _package() -> ModuleType:
    own = Path(__file__).parent
    spec = PathFinder.find_spec(__name__, [folder for folder in sys.path if Path(folder) != own])
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[__name__] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package
