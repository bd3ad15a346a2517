"""What an install of the package brings: magics, an enabled server extension, an enabled labextension."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

EXTENSION = "share/jupyter/labextensions/jupyter-llmops"
SERVER_CONFIG = "etc/jupyter/jupyter_server_config.d/jupyter_llmops.json"


def build(target: str, source: Path, into: Path, **environment: str) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", repository, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", repository, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the wheel under a prefix of its own and return the environment that sees it first."""
    prefix = tmp_path_factory.mktemp("prefix")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--ignore-installed",
    ]
    subprocess.run([*command, "--prefix", str(prefix), str(wheel)], check=True, timeout=120)
    (site,) = prefix.glob("lib/python*/site-packages")
    home = tmp_path_factory.mktemp("home")
    return {
        **os.environ,
        "HOME": str(home),
        "PREFIX": str(prefix),
        "PYTHONPATH": str(site),
        "JUPYTER_PATH": str(prefix / "share" / "jupyter"),
        # As the user's own folder, since `server extension list` goes by folders that it knows.
        "JUPYTER_CONFIG_DIR": str(prefix / "etc" / "jupyter"),
        "IPYTHONDIR": str(home / "ipython"),
        "LLMOPS_HOME": str(home / "llmops"),
        "LLMOPS_CATALOG": str(home / "catalog"),
    }


def listing(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "jupyter", *words, "list"],
        cwd=environment["HOME"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def contents(wheel: Path) -> dict[str, str]:
    """Return the wheel's files: where each is installed, and its path inside."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    return {name.partition(".data/data/")[2] or name: name for name in names}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path, repository: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "src/jupyter_llmops"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = {name.removeprefix("src/") for name in tracked if (repository / name).exists()}
    assert "jupyter_llmops/py.typed" in expected
    assert expected <= set(contents(wheel))


def test_the_wheel_holds_the_extensions_once(wheel: Path) -> None:
    names = contents(wheel)
    assert {SERVER_CONFIG, f"{EXTENSION}/package.json", f"{EXTENSION}/install.json"} <= set(names)
    assert [name for name in names if name.startswith(f"{EXTENSION}/static/remoteEntry.")] != []
    assert [name for name in names if "_labextension" in name or "node_modules" in name] == []


def test_one_version_everywhere(wheel: Path, repository: Path) -> None:
    version = json.loads((repository / "labextension" / "package.json").read_text("utf-8"))["version"]
    assert wheel.name == f"jupyter_llmops-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        bundled = json.loads(archive.read(contents(wheel)[f"{EXTENSION}/package.json"]))
    assert bundled["version"] == version


def test_the_labextension_is_enabled_and_ok(installed: dict[str, str]) -> None:
    shown = listing(installed, "labextension")
    _, _, after = shown.partition(f"{installed['JUPYTER_PATH']}{os.sep}labextensions")
    line = next(line for line in after.splitlines() if "jupyter-llmops" in line)
    assert "enabled" in line
    assert "OK" in line


def test_the_server_extension_is_enabled_and_ok(installed: dict[str, str]) -> None:
    shown = listing(installed, "server", "extension")
    _, _, after = shown.partition(f"Config dir: {installed['JUPYTER_CONFIG_DIR']}")
    lines = after.splitlines()
    start = next(number for number, line in enumerate(lines) if "jupyter_llmops" in line)
    assert "enabled" in lines[start]
    assert "OK" in "\n".join(lines[start : start + 3])


def test_the_magics_load_from_the_install(installed: dict[str, str]) -> None:
    program = (
        "from IPython.core.interactiveshell import InteractiveShell as Shell\n"
        "shell = Shell.instance(); shell.run_line_magic('load_ext', 'jupyter_llmops')\n"
        "import jupyter_llmops; print(jupyter_llmops.__file__, 'prompt' in shell.magics_manager.magics['cell'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=installed["HOME"],
        env=installed,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    place, known = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert place.startswith(installed["PREFIX"])
    assert known == "True"


@pytest.mark.slow
def test_a_wheel_from_the_sdist_needs_no_node(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    rebuilt = build("wheel", source, tmp_path / "again", PATH=str(nowhere))
    assert set(contents(rebuilt)) == set(contents(wheel))
