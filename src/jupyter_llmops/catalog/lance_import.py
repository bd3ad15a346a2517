"""LanceDB imported without the client of a remote service, which a catalog never asks."""

from __future__ import annotations

import ast
import importlib.util
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from typing import Any

# LanceDB needs its models. The package's `__init__` also builds pydantic validators for each call of the service:
# a third of the time that every kernel, agent and server would wait for its first look into the catalog.
CLIENT = "lance_namespace_urllib3_client"


def spare_the_client() -> None:
    """Let the import of LanceDB that follows leave the client out until somebody asks it for something."""
    if "lancedb" not in sys.modules and CLIENT not in sys.modules:
        _put_off(CLIENT)


def _put_off(name: str) -> None:
    """Enter a package that imports the module of a name when the name is wanted, where its code only imports names.

    Its own code never runs. So it can be neither half done, nor in the way of a module that is being imported:
    threads, cycles and failures are those of the modules, and Python's import system sees to them.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):  # another LanceDB may do without it
        return
    contents = _contents(name, spec.loader.get_source(name) or "")
    if contents is None:
        return  # it does more than that: it is imported as ever
    homes, values = contents
    package = importlib.util.module_from_spec(spec)

    def wanted(attribute: str) -> Any:
        module = f"{name}.{attribute}"
        if attribute in homes:
            home, given = homes[attribute]
            vars(package)[attribute] = getattr(__import__(home, fromlist=[given]), given)
            return vars(package)[attribute]
        if not attribute.startswith("__") and PathFinder.find_spec(module, package.__path__):
            return importlib.import_module(module)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}", name=attribute, obj=package)

    vars(package).update({"__all__": list(homes), **values}, __getattr__=wanted)
    vars(package)["__dir__"] = lambda: sorted({*vars(package), *homes})
    sys.modules.setdefault(name, package)


def _contents(name: str, source: str) -> tuple[dict[str, tuple[str, str]], dict[str, Any]] | None:
    """Return the module and the name there of each name that code imports, and what it says of itself."""
    homes: dict[str, tuple[str, str]] = {}
    values: dict[str, Any] = {}
    for step in ast.parse(source).body:
        match step:
            case ast.Expr(value=ast.Constant()):  # words about it
                continue
            case ast.Assign(targets=[ast.Name(id="__version__" | "__all__" as said)]):
                try:
                    values[said] = ast.literal_eval(step.value)
                except ValueError:
                    return None
            case ast.ImportFrom(module=str(home), level=0) if home.startswith(f"{name}."):
                homes |= {alias.asname or alias.name: (home, alias.name) for alias in step.names}
            case _:
                return None
    return None if "*" in homes else (homes, values)
