"""Several processes map the same rows: each row is computed once, also where one of them is killed midway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from soak import SoakScale

DEADLINE = 60.0


class Mappers:
    """Processes of `map_worker.py` on one catalog."""

    def __init__(self, repository: Path, folder: Path, rows: int) -> None:
        self.repository, self.folder, self.rows = repository, folder, rows
        self.log = folder / "computed"

    def start(self, first: int = 0) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(self.repository / "tests"), str(self.repository / "src")])
        arguments = [self.folder / "home", self.folder / "catalog", self.rows, self.log, first]
        process = subprocess.Popen(
            [sys.executable, str(self.repository / "tests" / "map_worker.py"), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def go(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def result(self, process: subprocess.Popen[str]) -> dict[str, object]:
        out, _ = process.communicate(timeout=DEADLINE)
        return json.loads(out.splitlines()[-1])

    def computed(self) -> Counter[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(line.partition(" ")[2] for line in lines)

    def wait_for(self, count: int) -> None:
        end = time.monotonic() + DEADLINE
        while sum(self.computed().values()) < count:
            assert time.monotonic() < end, "nothing is computed"
            time.sleep(0.005)

    @property
    def answers(self) -> list[str]:
        return sorted(f"Say row {number}" for number in range(self.rows))


def test_processes_that_map_the_same_rows_compute_each_once(tmp_path: Path, repository: Path) -> None:
    mappers = Mappers(repository, tmp_path, rows=30)
    processes = [mappers.start(first) for first in (0, 10, 20)]
    mappers.go(*processes)
    results = [mappers.result(process) for process in processes]
    assert [result["values"] for result in results] == [mappers.answers] * 3
    assert mappers.computed() == Counter(mappers.answers)


def test_when_one_is_killed_the_others_compute_what_it_left(
    tmp_path: Path, repository: Path, soak_scale: SoakScale
) -> None:
    for case in soak_scale.cases(sample=1, full=20):
        folder = tmp_path / str(case)
        folder.mkdir()
        mappers = Mappers(repository, folder, rows=30)
        victim, *others = (mappers.start() for _ in range(3))
        mappers.go(victim)
        mappers.wait_for(3 + case % 20)
        mappers.go(*others)
        victim.kill()
        victim.communicate()
        results = [mappers.result(process) for process in others]
        assert [result["values"] for result in results] == [mappers.answers] * 2
        again = [text for text, count in mappers.computed().items() if count > 1]
        assert len(again) <= 1, "only what was being computed when it was killed is computed again"
