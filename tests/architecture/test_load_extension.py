"""%load_ext stays light: nothing heavy is imported before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from jupyter_llmops.keys.signing import LogKeys

HEAVY = ("torch", "transformers", "bitsandbytes", "lancedb", "lance", "pyarrow", "sklearn", "pandas", "numpy")
PROGRAM = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "jupyter_llmops")
own = sorted({".".join(name.split(".")[:2]) for name in set(sys.modules) if name.startswith("jupyter_llmops.")})
shell.run_cell("6 * 7", store_history=True)
top = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print("\\n" + json.dumps({"imported": top, "own": own, "magics": sorted(shell.magics_manager.magics["line"])}))
"""


def test_load_ext_and_a_plain_cell_import_nothing_heavy(tmp_path: Path) -> None:
    home = {
        "HOME": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "LLMOPS_HOME": str(tmp_path / "llmops"),
    }
    # The first session of a home makes its key, with the module for it; the later ones load neither.
    LogKeys.load(tmp_path / "llmops" / "keys")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, **home, "LLMOPS_CATALOG": str(tmp_path / "catalog")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert {"llmops", "gpus", "cache", "runs", "audit"} <= set(seen["magics"])
    assert [name for name in HEAVY if name in seen["imported"]] == []
    # The catalog alone is 40 modules: a quarter of the time that loading may take.
    assert not {"jupyter_llmops.catalog", "jupyter_llmops.keys"} & set(seen["own"])
