"""Autoload in real kernels and terminals: of nbconvert and nbclient, of other profiles, without the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from jupyter_llmops.audit.coverage import coverage_of
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.workspace.autoload import STARTUP_FILE, switch_on

CELLS = ("x = 1", "y = x + 1", "y")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "JPY_PARENT_PID"}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_llmops_config.py").write_text("c.LLMOps.agent = 'off'\n")
    return kept | {
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "LLMOPS_HOME": str(tmp_path / "home"),
        "LLMOPS_CATALOG": str(tmp_path / "catalog"),
        "HF_HUB_OFFLINE": "1",
    }


def startup(folder: Path, profile: str = "default") -> Path:
    return folder / "ipython" / f"profile_{profile}" / "startup"


def stamped(folder: Path) -> list[list[int | None]]:
    return [
        [run.execution_count for run in read_runs(path) if run.kind == "cell"]
        for path in list_journals(folder / "home" / "audit")
    ]


@pytest.mark.slow
def test_notebooks_of_nbclient_and_nbconvert_are_in_the_log_from_their_first_cell(
    tmp_path: Path, env: dict[str, str]
) -> None:
    switch_on(startup(tmp_path))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, kernel_name="python3").execute(env=env)
    assert notebook.cells[0].outputs == [], "loading writes into the first cell"
    (tmp_path / "n.ipynb").write_text(nbformat.writes(notebook))  # type: ignore[no-untyped-call]
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--stdout", "n.ipynb"]
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    assert stamped(tmp_path) == [[1, 2, 3], [1, 2, 3]]
    assert coverage_of(tmp_path / "home" / "audit") == ()


def terminal(env: dict[str, str], *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys\n{before}\nfrom IPython import start_ipython\nstart_ipython({list(arguments)!r})"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True)


@pytest.mark.slow
def test_another_profile_has_its_own(tmp_path: Path, env: dict[str, str]) -> None:
    source = "%load_ext jupyter_llmops\n%llmops autoload on"
    said = terminal(env, "--profile=other", "-c", source).stdout
    file = startup(tmp_path, "other") / STARTUP_FILE
    assert "on in profile other since" in said
    assert str(file) in said
    assert file.exists()
    assert not (startup(tmp_path) / STARTUP_FILE).exists()
    assert "jupyter_llmops" in terminal(env, "--profile=other", "-c", "1").stdout


@pytest.mark.slow
def test_without_the_package_or_with_a_broken_one_everything_starts(
    tmp_path: Path, env: dict[str, str]
) -> None:
    switch_on(startup(tmp_path))
    terminal(env, "-c", "1")  # IPython writes its folder
    gone = terminal(env, "-c", "print(sorted(globals()))", before="sys.modules['jupyter_llmops'] = None")
    assert gone.stderr == ""
    assert "llmops" not in gone.stdout
    broken = tmp_path / "broken" / "jupyter_llmops"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('a library is missing')")
    shown = terminal(env, "-c", "print('it goes on')", before=f"sys.path.insert(0, {str(broken.parent)!r})")
    assert shown.stdout == "it goes on\n"
    assert shown.stderr == (
        "jupyter_llmops was not loaded, so cells are not stamped: RuntimeError: a library is missing\n"
    )
