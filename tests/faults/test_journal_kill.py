"""kill -9 of stamping processes: no acknowledged leaf is lost and the chain verifies."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_llmops.audit.files import head_path, journal_path
from jupyter_llmops.audit.reading import list_journals, read_content, read_runs
from jupyter_llmops.audit.verification import verify
from soak import SoakScale

WRITER = Path(__file__).resolve().parent.parent / "journal_writer.py"
WRITERS = 4


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_acknowledged_leaves_survive_kill_9(tmp_path: Path, soak_scale: SoakScale) -> None:
    acknowledged = killed = 0
    for seed in soak_scale.cases(sample=3, full=50):  # four kills each: 200 in a soak
        generator = random.Random(seed)
        folder = tmp_path / f"audit-{seed}"
        writers = [
            subprocess.Popen(
                [sys.executable, WRITER, folder, f"s{number}", str(generator.choice([1, 1, 3]))],
                stdout=subprocess.PIPE,
            )
            for number in range(WRITERS)
        ]
        said: list[list[str]] = []
        try:
            said += [_kill_after(writer, generator.randint(1, 300)) for writer in writers]
        finally:
            for writer in writers:
                writer.kill()
                writer.wait()
                assert writer.stdout is not None
                writer.stdout.close()
        for number, ids in enumerate(said):
            path = journal_path(folder, f"s{number}")
            runs = {run.id: run for run in read_runs(path)}
            assert set(ids) <= runs.keys()
            # Nothing but the one stamp of each thread that was under way was written besides.
            assert len(runs) <= len(ids) + 1 + 3
            for run_id in generator.sample(ids, min(5, len(ids))):
                assert read_content(folder, runs[run_id])
            acknowledged += len(ids)
            killed += 1
        verification = verify(folder)
        assert verification.ok, verification.problems
        assert verification.sessions == WRITERS
    assert killed == 0 or acknowledged > killed * 20


def _kill_after(writer: subprocess.Popen[bytes], lines: int) -> list[str]:
    """Kill a writer after so many acknowledgements and return all that it has given."""
    assert writer.stdout is not None
    ids = []
    for line in writer.stdout:
        ids.append(line)
        if len(ids) == lines:
            writer.kill()
    # The last line may be cut by the kill: then it was not said.
    return [line.decode().strip() for line in ids if line.endswith(b"\n")]


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_torn_last_line_is_a_note_and_no_tampering(tmp_path: Path, cut: int) -> None:
    """Every state in which a kill can leave the files between two stamps."""
    from jupyter_llmops.audit.files import Head, Mark
    from jupyter_llmops.audit.journal import Journal

    folder = tmp_path / "audit"
    journal = Journal(folder, session="s")
    journal.stamp("cell", content={"source": "1"})
    before = journal_path(folder, "s").read_bytes()
    stored = Head.from_bytes(head_path(folder, "s").read_bytes()).stored
    journal.stamp("cell", content={"source": "2"})
    line = journal_path(folder, "s").read_bytes()[len(before) :]
    wanted: Mark = Head.from_bytes(head_path(folder, "s").read_bytes()).stored
    journal.close()
    # As it was while the second line was being written: its sidecar is there, the head knows of it.
    journal_path(folder, "s").write_bytes(before + line[: min(cut, len(line) - 1)])
    head_path(folder, "s").write_bytes(Head(wanted, stored, closed=False).to_bytes())
    verification = verify(folder)
    assert verification.ok, verification.problems
    assert verification.records == 2
    assert any("stopped while it wrote" in note for note in verification.notes) == (cut > 0)
    assert len(list(read_runs(list_journals(folder)[0]))) == 2
    # All of the line there and only the head's second mark not yet.
    journal_path(folder, "s").write_bytes(before + line)
    assert verify(folder).ok
    assert verify(folder).records == 3
