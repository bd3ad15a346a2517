"""Whatever is done to the files, verify finds it and names the session, and the record where it is one."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import journal_attacks
from journal_attacks import ATTACKS, NEEDS_PUBLISHED, Files
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.audit.verification import verify
from soak import SoakScale

Published = dict[str, dict[int, str]]


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Published]:
    """Three sessions: two that were closed, one whose process was killed between two stamps."""
    folder = tmp_path_factory.mktemp("trail") / "audit"
    for number in range(3):
        journal = Journal(folder, session=f"s{number}", context={"user": "ada", "host": "here"})
        for n in range(6 + 5 * number):
            content = {"source": f"x = {n}"} if n % 3 else {}
            journal.stamp("cell", fields={"execution_count": n, "notebook": "ä.ipynb"}, content=content)
        if number == 2:
            journal._files.forget()
            journal._stop.set()
        else:
            journal.close()
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    published = {
        path.stem: {run.seq: run.leaf_digest for run in read_runs(path)} for path in list_journals(folder)
    }
    assert verify(folder, published=published).ok
    return files, published


def test_every_attack_is_found(tmp_path: Path, trail: tuple[Files, Published], soak_scale: SoakScale) -> None:
    original, published = trail
    folder = tmp_path / "audit"
    write(folder, original)
    names = sorted(ATTACKS)
    missed = []
    for seed in soak_scale.cases(sample=20 * len(names), full=10_000):
        name = names[seed % len(names)]
        generator = random.Random(seed)
        files = dict(original)
        session, record = ATTACKS[name](generator, files)
        while files == original:
            session, record = ATTACKS[name](generator, files)
        change(folder, original, files)
        # Most attacks leave traces in the files themselves; half of them get no further help.
        rows = published if name in NEEDS_PUBLISHED or seed % 2 else {}
        verification = verify(folder, published=rows)
        named = [problem for problem in verification.problems if problem.session == session]
        if verification.ok or not named or (record is not None and all(p.seq != record for p in named)):
            missed.append((seed, name, session, record, verification))
        assert all(problem.session in problem.message for problem in verification.problems)
        change(folder, files, original)
    assert not missed, missed[:3]
    assert verify(folder, published=published).ok


def test_rewriting_everything_unpublished_is_not_found(
    tmp_path: Path, trail: tuple[Files, Published]
) -> None:
    """What the trail does not prove, as its documentation says; this fails when that becomes untrue."""
    original, published = trail
    for name in NEEDS_PUBLISHED:
        files = dict(original)
        ATTACKS[name](random.Random(name), files)
        folder = tmp_path / name
        write(folder, files)
        unseen = verify(folder).problems
        assert all("content" in problem.message for problem in unseen), name
        assert not verify(folder, published=published).ok


def test_content_that_goes_without_a_word_is_named(tmp_path: Path, trail: tuple[Files, Published]) -> None:
    original, published = trail
    kept = {path: data for path, data in original.items() if not path.startswith("content/s1/")}
    write(tmp_path / "audit", kept)
    verification = verify(tmp_path / "audit", published=published)
    assert {problem.session for problem in verification.problems} == {"s1"}
    assert all("deleted without a word" in problem.message for problem in verification.problems)


def test_the_attacks_know_nothing_of_the_package(tmp_path: Path) -> None:
    code = "import sys, journal_attacks; sys.exit(any(name.startswith('jupyter_llmops') for name in sys.modules))"
    folder = Path(journal_attacks.__file__).parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, timeout=60)
    assert "jupyter_llmops" not in Path(journal_attacks.__file__).read_text("utf-8")


def write(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def change(folder: Path, before: Files, after: Files) -> None:
    for name in before.keys() - after.keys():
        (folder / name).unlink()
    for name, data in after.items():
        if before.get(name) != data:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
