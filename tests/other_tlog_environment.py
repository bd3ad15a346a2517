"""Makes the environment in which aics-tlog runs: build/tlog-verifier, with a Python that it accepts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENT = "aics-tlog==0.2.1"
OLDEST = (3, 12)


class NotHereError(Exception):
    """Why there is none on this machine."""


def other_python(build: Path) -> Path:
    """Return the environment's interpreter, made from PyPI at the first call; NotHereError says why there is none."""
    folder = build / "tlog-verifier"
    python = folder / "bin" / "python"
    installed = folder / "installed"
    if installed.exists() and installed.read_text() == REQUIREMENT and python.exists():
        return python
    base = _newer_python()
    shutil.rmtree(folder, ignore_errors=True)
    _run([base, "-m", "venv", str(folder)], "no environment can be made with")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    _run(
        [*pip, "--retries", "1", "--timeout", "15", REQUIREMENT], "it can't be had from a package index with"
    )
    installed.write_text(REQUIREMENT)
    return python


def _newer_python() -> str:
    candidates = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(12, 20))]
    candidates += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))]
    probe = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    for candidate in filter(None, candidates):
        try:
            done = subprocess.run([candidate, "-c", probe], capture_output=True, check=False, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return candidate
    raise NotHereError(f"{REQUIREMENT} needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and there is none here")


def _run(command: list[str], trouble: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotHereError(f"{REQUIREMENT}: {trouble} {command[0]}: {error}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise NotHereError(f"{REQUIREMENT}: {trouble} {command[0]}: {last}")


if __name__ == "__main__":
    print(other_python(Path(__file__).resolve().parent.parent / "build"))
