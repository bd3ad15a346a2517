"""Starts `catalog_writer.py` several times at once and collects what was acknowledged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jupyter_llmops.location import Location

WRITER = Path(__file__).with_name("catalog_writer.py")


def start_writers(
    place: Path | Location, kind: str, names: Sequence[str], count: int
) -> list[subprocess.Popen[str]]:
    """Start one writer per name; they have imported everything and wait for `go`."""
    return start([sys.executable, str(WRITER), str(place), kind, name, str(count)] for name in names)


def start(commands: Iterable[Sequence[str]]) -> list[subprocess.Popen[str]]:
    """Start processes that say "ready" and then wait for `go`."""
    writers = [
        subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert json.loads(writer.stdout.readline()) == "ready"
    return writers


def go(writers: Sequence[subprocess.Popen[str]]) -> None:
    """Let all of them write."""
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()


def acknowledged(writers: Sequence[subprocess.Popen[str]], timeout: float = 240) -> list[list[Any]]:
    """Wait for all and return every write that was acknowledged, as [writer, number, answer]."""
    answers = []
    for writer in writers:
        out, _ = writer.communicate(timeout=timeout)
        # The last line of a killed writer may be torn.
        answers += [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith("\n")]
    return answers


def write_at_once(place: Path | Location, kind: str, names: Sequence[str], count: int) -> list[list[Any]]:
    """Run all writers to their end and return what they said."""
    writers = start_writers(place, kind, names, count)
    go(writers)
    answers = acknowledged(writers)
    assert [writer.returncode for writer in writers] == [0] * len(writers)
    return answers
