"""Notebooks that do to the execution count whatever users do, and what a server sees of them."""

from __future__ import annotations

import gc
import os
import random
import time
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.audit.cells import CellStamper
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.observations import micros


def stamping(shell: InteractiveShell, folder: Path) -> CellStamper:
    stamper = CellStamper(shell, Journal(folder))
    stamper.register()
    return stamper


# What users do, that has to do with counts; {n} is a number.
CELLS = (
    "x = {n}",
    "x = {n}\nx",
    "1 / 0",
    "def (",
    "",
    "   \n",
    "%%capture\ny = {n}",
    "get_ipython().run_cell('z = {n}')",
    "get_ipython().run_cell('z = {n}', store_history=True)",
    "get_ipython().run_cell('get_ipython().run_cell(\"q = {n}\", store_history=True)', store_history=True)",
    "get_ipython().run_cell('z = {n}', silent=True)",
    "raise KeyboardInterrupt",
    "import sys; sys.exit()",
    "%reset -f",
    "get_ipython().reset()",
    "%time w = {n}",
    "%run {script}",
)


def run_notebook(shell: InteractiveShell, chance: random.Random, script: Path, cells: int) -> None:
    """Run cells as users do, and now and then as frontends do."""
    # What other tests have loaded is no part of it: each %reset would collect all of that, and each traceback
    # look through it.
    shell.InteractiveTB.set_mode("Minimal")
    gc.freeze()
    try:
        for n in range(cells):
            source = chance.choice(CELLS).format(n=n, script=script)
            kept = chance.random() < 0.85
            shell.run_cell(source, store_history=kept, silent=not kept and chance.random() < 0.5)
    finally:
        gc.unfreeze()


class Onlooker:
    """Sees of a shell's cells what the server sees of a kernel's: number and times of those that are not silent."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.cells: list[list[int]] = []
        self._run = shell.run_cell
        self._shell = shell
        self._deep = 0
        shell.run_cell = self.run_cell  # type: ignore[method-assign]

    def run_cell(self, source: str, *args: Any, silent: bool = False, **options: Any) -> Any:
        begin, count = time.time_ns() // 1000, self._shell.execution_count
        self._deep += 1
        try:
            return self._run(source, *args, silent=silent, **options)
        finally:
            self._deep -= 1
            if not (silent or self._deep) and source.strip():
                self.cells.append([count, begin, time.time_ns() // 1000 - begin, 0])

    def saw(self, leaf: dict[str, Any]) -> bool:
        """Return whether a cell of the log is one that was seen."""
        moment = micros(leaf["started_at"])
        return any(
            count == leaf["execution_count"] and begin <= moment <= begin + duration
            for count, begin, duration, _ in self.cells
        )

    @property
    def leaves(self) -> list[dict[str, Any]]:
        more = {"kernel": "k", "process": "p", "kernel_pid": os.getpid(), "kernel_name": "python3"}
        return [{"kind": "observation", "session": "server", "cells": self.cells, "events": [], **more}]
