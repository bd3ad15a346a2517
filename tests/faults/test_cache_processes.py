"""Several processes on one folder, some clearing it and some killed midway: no item is ever half there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

from cache_answers import GENERATION, Engine, asking
from cache_worker import QUESTIONS, answer_to
from jupyter_llmops.cache.exact import ExactCache
from soak import SoakScale


def start(repository: Path, *arguments: object) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(repository / "tests"), str(repository / "src")])
    return subprocess.Popen(
        [sys.executable, str(repository / "tests" / "cache_worker.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_share_a_folder(tmp_path: Path, repository: Path, soak_scale: SoakScale):
    count = soak_scale(40, 3_000)
    workers = [start(repository, tmp_path, seed, count, *["clear"][: seed % 2]) for seed in range(4)]
    seen = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4
    assert [(result["wrong"], result["warnings"]) for result in seen] == [(0, [])] * 4
    assert sum(result["hits"] for result in seen) > 0
    assert sum(result["misses"] for result in seen) > QUESTIONS


def test_killed_writers_leave_no_half_item(tmp_path: Path, repository: Path, soak_scale: SoakScale):
    for case in soak_scale.cases(sample=3, full=100):
        chance = random.Random(case)
        folder = tmp_path / str(case)
        worker = start(repository, folder, case, 1_000_000, "clear")
        assert worker.stdout is not None
        assert worker.stdout.readline() == "asking\n"
        # Killed at a random moment of its work: the pause decides which, no assertion depends on it.
        time.sleep(chance.uniform(0, 0.3))
        worker.kill()
        worker.communicate()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cache = ExactCache(folder)
            for number in range(QUESTIONS):
                engine = Engine(replace(GENERATION, text=answer_to(number)))
                assert cache.fetch(asking(f"question {number}"), engine).generation.text == answer_to(number)
                assert cache.fetch(asking(f"question {number}"), engine).hit
