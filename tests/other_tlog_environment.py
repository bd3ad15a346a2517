"""Makes the environment in which aics-tlog runs: build/tlog-verifier, with a Python that it accepts."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
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
    probe = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {OLDEST})"
    for candidate in _pythons():
        try:
            done = subprocess.run([candidate, "-c", probe], capture_output=True, check=False, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return candidate
    raise NotHereError(f"{REQUIREMENT} needs Python {OLDEST[0]}.{OLDEST[1]} or newer, and there is none here")


def _pythons() -> Iterator[str]:
    """Yield every Python that this machine is likely to have: on the path, of pyenv, of uv."""
    yield sys.executable
    for name in (*(f"python3.{minor}" for minor in range(OLDEST[1], 20)), "python3"):
        yield from filter(None, [shutil.which(name)])
    # HOME may be another one, as in a clean check.
    homes = [Path.home()]
    with suppress(KeyError):  # a user without an entry
        homes.append(Path(pwd.getpwuid(os.getuid()).pw_dir))
    roots = [home / ".pyenv" for home in homes]
    if root := os.environ.get("PYENV_ROOT"):
        roots.insert(0, Path(root))
    folders = [root / "versions" for root in roots]
    folders += [home / ".local/share/uv/python" for home in homes]
    for folder in dict.fromkeys(folders):
        try:
            yield from map(str, sorted(folder.glob("*3.*/bin/python3")))
        except OSError:
            continue  # another user's


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
