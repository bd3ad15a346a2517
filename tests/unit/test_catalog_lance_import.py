"""Opening a catalog does not build the client of a remote service; whoever wants that client gets it whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from jupyter_llmops.catalog.lance_import import CLIENT

PROGRAM = f"""
import sys
from pathlib import Path
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import MODELS
from jupyter_llmops.location import Location

connection = Connection(Location.parse(Path(sys.argv[1])))
connection.create(MODELS)
assert connection.count(MODELS) == 0
print([name for name in sys.modules if name.startswith("{CLIENT}.api")])
import {CLIENT} as package
assert not hasattr(package, "__nothing__")
print([name for name in sys.modules if name.startswith("{CLIENT}.api")])
from {CLIENT} import ApiClient
from {CLIENT}.api_client import ApiClient as same
print(ApiClient is same, package.__version__ == "" or package.TableApi.__module__)
try:
    package.Nothing
except AttributeError as error:
    print(error)
"""


def test_the_client_is_built_when_it_is_wanted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[]",
        "[]",
        f"True {CLIENT}.api.table_api",
        f"module '{CLIENT}' has no attribute 'Nothing'",
    ]
