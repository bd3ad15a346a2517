"""LanceDB imported without the client of a remote service, which a catalog never asks."""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import Any

# LanceDB needs its models. The package's `__init__` also builds pydantic validators for each call of the service:
# a third of the time that every kernel, agent and server would wait for its first look into the catalog.
CLIENT = "lance_namespace_urllib3_client"


def spare_the_client() -> None:
    """Let the import of LanceDB that follows leave the client out until somebody asks it for something."""
    if "lancedb" not in sys.modules and CLIENT not in sys.modules:
        _put_off(CLIENT)


def _put_off(name: str) -> None:
    """Enter a package whose submodules can be imported, and whose own code runs when a name of it is wanted."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:  # another LanceDB may do without it
        return
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)
    running = threading.RLock()

    def wanted(attribute: str) -> Any:
        if attribute.startswith("__") and attribute not in ("__all__", "__version__"):
            raise AttributeError(attribute)  # only somebody who looks through all modules
        with running:
            if vars(package).pop("__getattr__", None):
                loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = wanted
    sys.modules[name] = package
