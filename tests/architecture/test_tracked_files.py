"""What is committed serves everybody: no machine's paths, no registry's host, no conflict marks."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

TEXT_LIMIT_BYTES = 2_000_000
# Written so that this file does not hold what it looks for.
REGISTRIES = re.compile(
    "|".join(
        re.escape(host.replace("~", ""))
        for host in (
            "py~pi.org",
            "python~hosted.org",
            "registry.npm~js.org",
            "registry.yarn~pkg.com",
            "deb.deb~ian.org",
            "conda.ana~conda.org",
        )
    )
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.$}])/(?:" + "|".join(("ro" + "ot", "wo" + "rk", "opt/py" + "pi")) + r")/[\w.]"
)
CONFLICT = re.compile(r"^(<{7} |>{7} |={7}$)", re.MULTILINE)


@cache
def texts(repository: Path) -> dict[str, str]:
    """Return the text of every tracked file, by its path."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    found = {}
    for name in listing.stdout.decode().split("\0"):
        path = repository / name
        if not name or not path.is_file() or path.stat().st_size > TEXT_LIMIT_BYTES:
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            found[name] = content.decode("utf-8")
    assert "pyproject.toml" in found
    return found


def test_no_registry_is_named(repository: Path) -> None:
    assert [name for name, text in texts(repository).items() if REGISTRIES.search(text)] == []


def test_no_path_of_a_machine_is_left(repository: Path) -> None:
    found = {
        name: match[0] for name, text in texts(repository).items() if (match := MACHINE_PATHS.search(text))
    }
    assert found == {}


def test_the_patterns_find_what_they_should() -> None:
    assert REGISTRIES.search("https://py" + "pi.org/simple")
    assert REGISTRIES.search("registry.npm" + "js.org")
    assert MACHINE_PATHS.search('"/wo' + 'rk/main"')
    assert MACHINE_PATHS.search("see /ro" + "ot/.cache")
    assert not MACHINE_PATHS.search("https://example.org/wo" + "rk/x")
    assert not MACHINE_PATHS.search("$HOME/wo" + "rk/x")


def test_no_conflict_marks(repository: Path) -> None:
    assert [name for name, text in texts(repository).items() if CONFLICT.search(text)] == []


def test_text_files_end_with_one_newline(repository: Path) -> None:
    wrong = [
        name
        for name, text in texts(repository).items()
        if text and (not text.endswith("\n") or text.endswith("\n\n") or "\r\n" in text)
    ]
    assert wrong == []


def test_locks_name_exact_versions_and_no_address(repository: Path) -> None:
    locks = {
        name: text for name, text in texts(repository).items() if re.fullmatch(r"requirements.*\.lock", name)
    }
    assert set(locks) >= {"requirements.lock", "requirements-dev.lock", "requirements-models.lock"}
    line = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+( ; [^#]+?)?( +# via .*)?")
    for name, text in locks.items():
        assert "://" not in text, name
        pins = [pin for pin in text.splitlines() if not pin.startswith("#")]
        assert [pin for pin in pins if not line.fullmatch(pin)] == [], name


def test_the_npm_lock_names_no_registry(repository: Path) -> None:
    assert '"resolved"' not in texts(repository)["labextension/package-lock.json"]
