"""A real Dask cluster on the loopback: a scheduler and workers, each a process that a test may kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parent


@dataclass
class DaskProcesses:
    """One cluster.

    Parameters
    ----------
    folder : Path
        Where the scheduler says its address and the workers keep what they need.
    """

    folder: Path
    address: str = ""
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> DaskProcesses:
        """Start the scheduler and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        said = self.folder / "scheduler.json"
        self.scheduler = self._run(
            "scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={said}"
        )
        until = time.monotonic() + 60
        while not self.address:
            assert time.monotonic() < until, "the scheduler did not start"
            with contextlib.suppress(OSError, ValueError):
                self.address = json.loads(said.read_text())["address"]
            time.sleep(0.02)
        return self

    def add_worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, without a nanny that would replace it."""
        worker = self._run(
            "worker", self.address, "--nthreads=1", "--no-nanny", "--no-dashboard", *options, **environment
        )
        self.workers.append(worker)
        return worker

    def wait_for(self, count: int) -> None:
        """Wait until so many workers are there."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            if count:
                client.wait_for_workers(count, timeout=60)
            # One that was killed may still be listed.
            until = time.monotonic() + 60
            while len(client.scheduler_info()["workers"]) != count:
                assert time.monotonic() < until, "workers did not come or go"
                time.sleep(0.02)

    def end_workers(self) -> None:
        """Kill every worker."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.workers.clear()

    def stop(self) -> None:
        """Kill everything."""
        self.end_workers()
        if self.scheduler is not None:
            self.scheduler.send_signal(signal.SIGKILL)
            self.scheduler.wait()

    def _run(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(TESTS), str(TESTS.parent / "src")])
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env={**os.environ, "PYTHONPATH": path, **environment},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
