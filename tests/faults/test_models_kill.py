"""kill -9 in the middle of a push and of a pull: nothing half is ever seen, and the rest goes on."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
from pathlib import Path

from jupyter_llmops.catalog.objects import open_objects
from jupyter_llmops.location import Location
from soak import SoakScale
from transfer_process import PIECE_BYTES, model_of

PROCESS = Path(__file__).resolve().parents[1] / "transfer_process.py"
KILLS = 2


def test_a_killed_transfer_goes_on_where_it_stopped(tmp_path: Path, soak_scale: SoakScale) -> None:
    killed = 0
    for seed in soak_scale.cases(sample=2, full=60):
        generator = random.Random(seed)
        place = tmp_path / str(seed)
        source, catalog, here = place / "source", place / "catalog", place / "here"
        source.mkdir(parents=True)
        (source / "config.json").write_text("{}")
        (source / "model.safetensors").write_bytes(generator.randbytes(PIECE_BYTES * 9 + 5))
        total = sum(path.stat().st_size for path in source.iterdir())
        for action in ("push", "pull"):
            sent = 0
            for _ in range(KILLS):
                bytes_seen, was_killed = run(action, catalog, here, source, generator.randint(1, 60))
                sent += bytes_seen
                killed += was_killed
                whole_or_absent(catalog, here, source)
            bytes_seen, _ = run(action, catalog, here, source, None)
            # Each kill costs at most the piece that was on its way; the small file and the list go along.
            assert sent + bytes_seen <= total + (KILLS + 1) * PIECE_BYTES + 4096, "it began anew"
            whole_or_absent(catalog, here, source)
        for path in source.iterdir():
            assert (here / path.name).read_bytes() == path.read_bytes()
        assert list(here.glob("*.part")) == []
    assert soak_scale.full or killed >= 4


def run(action: str, catalog: Path, here: Path, source: Path, kill_after: int | None) -> tuple[int, bool]:
    """Run a transfer, kill it after so many blocks; return the bytes that it said to have moved."""
    process = subprocess.Popen(
        [sys.executable, str(PROCESS), action, str(catalog), str(here), str(source)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    moved = 0
    for number, line in enumerate(process.stdout, 1):
        moved += int(line) if line.strip().isdigit() else 0
        if kill_after is not None and number >= kill_after:
            process.send_signal(signal.SIGKILL)
            kill_after = None
    killed = process.wait(60) == -signal.SIGKILL
    assert killed or process.returncode == 0
    return moved, killed


def whole_or_absent(catalog: Path, here: Path, source: Path) -> None:
    """Check that what is seen under its name is what the name says."""
    objects = open_objects(Location.parse(catalog))
    for name in objects.names("files/"):
        if not name.endswith(".pieces"):
            assert hashlib.sha256(b"".join(objects.read(name))).hexdigest() == name.removeprefix("files/")
    for file in model_of(source).files:
        target = here / file.path
        if target.exists():
            assert hashlib.sha256(target.read_bytes()).hexdigest() == file.sha256
