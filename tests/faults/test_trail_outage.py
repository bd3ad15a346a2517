"""A disk or a catalog that refuses, seen from the agent: cells run, lines wait, nothing is lost, one warning."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_llmops.agent import heads as heads_module
from jupyter_llmops.agent import loop as loop_module
from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import read_runs
from jupyter_llmops.audit.verification import verify
from jupyter_llmops.catalog import Catalog
from trail_home import stamp


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """The audit folder as a file system of 512 KiB of its own."""
    folder = home / "audit"
    folder.mkdir(parents=True)
    mount(folder, "-t", "tmpfs", "-o", "size=512k,mode=700", "none")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(target: Path, *arguments: str) -> None:
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount here: {done.stderr.strip()}")


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)


class Minutes:
    """A monotonic clock that goes a minute further whenever the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def pass_(self) -> None:
        self.now += 60.0


@pytest.fixture
def minutes(monkeypatch: pytest.MonkeyPatch) -> Minutes:
    clock = Minutes()
    monkeypatch.setattr(heads_module, "time", clock)
    monkeypatch.setattr(loop_module, "time", clock)
    return clock


def journal_of(folder: Path, catalog: Catalog, warned: list[str]) -> Journal:
    context = {"user": "ada", "host": "lab", "catalog": str(catalog.folder)}
    return Journal(folder, context=context, warn=warned.append)


def check_whole(journal: Journal, catalog: Catalog, count: int) -> None:
    """Assert that all lines and a head over them are in the catalog, and that the trail verifies."""
    runs = {run.seq: run.leaf_digest for run in read_runs(journal.path)}
    assert len(runs) == count + 1
    assert catalog.runs.digests(journal.session) == runs
    assert max(head.size for head in catalog.heads.of([journal.session])) == count + 1
    found = verify(journal.folder, published={journal.session: runs})
    assert found.problems == ()


def test_a_catalog_that_is_gone_for_an_hour(home: Path, catalog: Catalog, minutes: Minutes) -> None:
    warned: list[str] = []
    told: list[str] = []
    journal = journal_of(home / "audit", catalog, warned)
    loop = AgentLoop(journal.folder, catalog, on_problem=told.append)
    stamp(journal, 5)
    loop.step()
    aside = catalog.folder.rename(catalog.folder.with_name("aside"))
    catalog.folder.write_text("in the way")
    for _ in range(60):
        minutes.pass_()
        stamp(journal, 3)
        loop.step()
    assert len(told) == 1
    assert "in the way" in catalog.folder.read_text()
    assert warned == []  # cells do not notice
    catalog.folder.unlink()
    aside.rename(catalog.folder)
    minutes.pass_()
    loop.step()
    check_whole(journal, catalog, 185)
    assert len(told) == 1


@pytest.mark.parametrize("fault", ["full", "read only"])
def test_a_disk_that_refuses(small_disk: Path, catalog: Catalog, minutes: Minutes, fault: str) -> None:
    warned: list[str] = []
    told: list[str] = []
    journal = journal_of(small_disk, catalog, warned)
    loop = AgentLoop(small_disk, catalog, on_problem=told.append)
    filler = small_disk / "filler"
    if fault == "full":
        stamp(journal, 5)
        loop.step()
        fill(filler)
    else:
        mount(small_disk, "-o", "remount,ro")
    for _ in range(10):
        minutes.pass_()
        stamp(journal, 3)
        loop.step()
    assert len(warned) == 1
    assert len(told) <= 1
    if fault == "full":
        filler.unlink()
    else:
        mount(small_disk, "-o", "remount,rw")
    assert journal.flush()
    minutes.pass_()
    loop.step()
    minutes.pass_()
    loop.step(closing=True)
    check_whole(journal, catalog, 35 if fault == "full" else 30)
    assert len(told) <= 1
