"""Many processes that do everything at once: what they were told is what is there."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import catalog_mixer
from catalog_processes import acknowledged, go, start
from jupyter_llmops.catalog import Catalog
from s3_server import S3Bucket
from soak import SoakScale

MIXER = Path(catalog_mixer.__file__)


@contextmanager
def upkeep(place: str, retention: timedelta, after: int = 10) -> Iterator[list[str]]:
    """Maintain all the time, and far more often than an agent does."""
    catalog = Catalog(place, site="here", user="agent", retention=retention)
    stop, done = threading.Event(), list[str]()

    def keep() -> None:
        while not stop.wait(0.5):
            done.extend(catalog.optimize(after))

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(120)


@pytest.mark.slow
def test_many_processes_that_do_everything_at_once(tmp_path: Path, soak_scale: SoakScale) -> None:
    everything_at_once(str(tmp_path / "catalog"), soak_scale, soak_scale(4, 8), soak_scale(25, 500))


@pytest.mark.slow
def test_many_processes_that_do_everything_at_once_in_a_bucket(
    s3_bucket: S3Bucket, soak_scale: SoakScale
) -> None:
    everything_at_once(str(s3_bucket.location), soak_scale, soak_scale(2, 4), soak_scale(6, 50))


def everything_at_once(place: str, soak_scale: SoakScale, writers: int, count: int) -> None:
    catalog_mixer.prepare(place)
    processes = start(
        [sys.executable, str(MIXER), place, f"w{number}", str(count), str(soak_scale.seed)]
        for number in range(writers)
    )
    with upkeep(place, timedelta(seconds=5), after=min(10, count // 2)) as maintained:
        go(processes)
        said = acknowledged(processes, timeout=soak_scale(240, 3600))
    assert [process.returncode for process in processes] == [0] * writers
    assert len(said) == writers * count
    assert maintained
    catalog_mixer.check(place, said)
    taken = sorted(seconds for _, _, _, seconds, _ in said)
    print(f"{len(said)} operations, worst {taken[-1]:.2f} s, median {taken[len(taken) // 2] * 1000:.0f} ms")


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9_of_whoever_did_it(
    tmp_path: Path, soak_scale: SoakScale
) -> None:
    for seed in soak_scale.cases(sample=1, full=40):
        generator = random.Random(seed)
        place = str(tmp_path / f"catalog-{seed}")
        catalog_mixer.prepare(place)
        processes = start(
            [sys.executable, str(MIXER), place, f"w{number}", "100000", str(seed)] for number in range(3)
        )
        with upkeep(place, timedelta(seconds=5)):
            go(processes)
            said: list[catalog_mixer.Said] = []
            for process in processes:
                # Each dies at a random moment after it has acknowledged some, while the others go on.
                assert process.stdout is not None
                threading.Event().wait(generator.uniform(0.3, 1.5))
                process.send_signal(signal.SIGKILL)
            said = acknowledged(processes)
        assert [process.returncode for process in processes] == [-signal.SIGKILL] * 3
        assert len({writer for writer, *_ in said}) == 3
        catalog_mixer.check(place, said, killed=True)
        # The catalog goes on.
        catalog = Catalog(place, site="here", user="survivor", retention=timedelta(0))
        assert catalog.optimize(after=1)
        catalog_mixer.check(place, said, killed=True)
        assert catalog.prompts.publish("greeting", "after").version >= 1
