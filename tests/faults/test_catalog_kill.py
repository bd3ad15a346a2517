"""kill -9 of concurrent writers: every acknowledged row is there, and none twice."""

from __future__ import annotations

import collections
import json
import random
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from catalog_processes import go, start_writers
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.location import Location
from s3_server import S3Bucket
from soak import SoakScale


@pytest.mark.slow
def test_acknowledged_rows_survive_kill_9_and_none_is_there_twice(
    tmp_path: Path, soak_scale: SoakScale
) -> None:
    place = Location.parse(tmp_path)
    killed, acknowledged_rows = kill_writers(place, soak_scale.cases(sample=1, full=60), of_each_kind=2)
    if not soak_scale.full:
        assert killed == 4
        assert acknowledged_rows >= killed


@pytest.mark.slow
def test_acknowledged_rows_of_a_bucket_survive_kill_9_and_none_is_there_twice(
    s3_bucket: S3Bucket, soak_scale: SoakScale
) -> None:
    cases = soak_scale.cases(sample=1, full=20)
    killed, acknowledged_rows = kill_writers(s3_bucket.location, cases, of_each_kind=1)
    if not soak_scale.full:
        assert killed == 2
        assert acknowledged_rows >= killed


def kill_writers(place: Location, cases: Iterable[int], of_each_kind: int) -> tuple[int, int]:
    """Kill writers at random moments, one catalog per seed; return how many, and what they had acknowledged."""
    killed = acknowledged_rows = 0
    for seed in cases:
        generator = random.Random(seed)
        folder = place / f"catalog-{seed}"
        kinds = {
            "runs": [f"r{seed}-{n}" for n in range(of_each_kind)],
            "same_name": [f"p{seed}-{n}" for n in range(of_each_kind)],
        }
        writers = [
            (kind, writer)
            for kind, names in kinds.items()
            for writer in start_writers(folder, kind, names, 10_000)
        ]
        go([writer for _, writer in writers])
        said: dict[str, list[list[object]]] = {kind: [] for kind in kinds}

        def listen(kind: str, index: int, enough: threading.Event, until: int) -> None:
            stdout = writers[index][1].stdout  # noqa: B023 - joined before the next round
            assert stdout is not None
            heard = 0
            for line in stdout:
                if line.endswith("\n"):
                    said[kind].append(json.loads(line))  # noqa: B023
                    heard += 1
                if heard >= until:
                    enough.set()
            enough.set()

        threads, events = [], []
        for index, (kind, _) in enumerate(writers):
            event = threading.Event()
            thread = threading.Thread(target=listen, args=(kind, index, event, generator.randint(1, 6)))
            thread.start()
            threads.append(thread)
            events.append(event)
        # Each one dies at a random moment after it has acknowledged something: while the others
        # go on, and while its own next write is somewhere on its way.
        for (_, writer), event in zip(writers, events, strict=True):
            assert event.wait(120)
            threading.Event().wait(generator.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
        for (_, writer), thread in zip(writers, threads, strict=True):
            thread.join(60)
            assert writer.wait(60) == -signal.SIGKILL
            killed += 1
        acknowledged_rows += sum(len(answers) for answers in said.values())
        check(folder, said)
    return killed, acknowledged_rows


def check(folder: Location, said: dict[str, list[list[object]]]) -> None:
    """Compare what was acknowledged with what a fresh process' handle reads."""
    rows = Connection(folder).read("runs")
    assert rows is not None
    found = collections.Counter(rows["id"].to_pylist())
    assert set(found.values()) <= {1}
    promised = {run_id for _, _, ids in said["runs"] for run_id in ids}  # type: ignore[attr-defined]
    assert promised
    assert promised <= set(found)
    # A commit is whole or absent: three rows each.
    assert len(found) % 3 == 0

    catalog = Catalog(folder, site="lab", user="survivor")
    versions = catalog.prompts.versions("shared")
    numbers = [prompt.version for prompt in versions]
    assert numbers == list(range(1, len(numbers) + 1))
    templates = {prompt.version: prompt.template for prompt in versions}
    assert said["same_name"]
    for writer, number, version in said["same_name"]:
        assert templates[version] == f"{writer} {number}"  # type: ignore[index]
    assert len(set(templates.values())) == len(templates)

    # The catalog goes on: it can be written and maintained.
    assert catalog.describe().problem == ""
    assert catalog.prompts.publish("shared", "after").version == len(numbers) + 1
    assert set(catalog.optimize(after=2)) >= {"prompts"}
    assert len(catalog.prompts.versions("shared")) == len(numbers) + 1
