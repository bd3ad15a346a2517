"""How long a campaign of kills, forgeries or injected faults is, and what of it was already done."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Case = TypeVar("Case")
SEED = 20261122


@dataclass(frozen=True)
class SoakRecord:
    """What soaks have come to, by test: a file for programs and one for people.

    Parameters
    ----------
    folder : Path
        Where ``soak.json`` and ``soak.md`` lie.
    source : Path
        The code under test; what passed on other code doesn't count.
    """

    folder: Path
    source: Path

    def of(self, name: str) -> dict[str, Any]:
        """Return what this code's soaks have come to in one test; empty when nothing yet."""
        entry = self._read().get(name, {})
        return entry if entry.get("source") == _digest_of(self.source) else {}

    def note(self, name: str, **values: Any) -> None:
        """Add to what is known of one test."""
        entry = {**self.of(name), **values}
        entry |= {"source": _digest_of(self.source), "at": datetime.now(UTC).isoformat(timespec="seconds")}
        self.folder.mkdir(parents=True, exist_ok=True)
        everything = dict(sorted({**self._read(), name: entry}.items()))
        self._write("soak.json", json.dumps(everything, indent=1) + "\n")

    def report(self) -> None:
        """Write the table for people."""
        lines = ["# Campaigns in full", "", "Written by `make soak`.", ""]
        lines += [
            "| campaign | outcome | cases passed | of | minutes | ended |",
            "| --- | --- | --: | --: | --: | --- |",
        ]
        for name, entry in self._read().items():
            cases = f"{entry.get('passed', '')} | {entry.get('of', '')}"
            minutes = f"{entry.get('seconds', 0) / 60:.1f}"
            lines.append(
                f"| {name} | {entry.get('outcome', 'unfinished')} | {cases} | {minutes} | {entry['at']} |"
            )
        self._write("soak.md", "\n".join(lines) + "\n")

    def _read(self) -> dict[str, dict[str, Any]]:
        path = self.folder / "soak.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def _write(self, name: str, text: str) -> None:
        # A soak can be interrupted at any moment, also here.
        unfinished = self.folder / f".{name}.{os.getpid()}.new"  # the workers of a run write, too
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(self.folder / name)


@dataclass(frozen=True)
class SoakScale:
    """The size of one campaign.

    Parameters
    ----------
    name : str
        The test that runs it.
    full : bool
        True in a soak: every case; else a seeded sample.
    record : SoakRecord
        Where a soak remembers the cases that passed.
    seed : int
        Seed of the sample.
    """

    name: str
    full: bool
    record: SoakRecord
    seed: int = SEED

    def __call__(self, sample: int, full: int) -> int:
        """Return `sample`, or `full` in a soak."""
        return full if self.full else sample

    def pick(self, cases: Sequence[Case], sample: int) -> list[Case]:
        """Return `sample` of the cases, always the same ones and in order; all of them in a soak."""
        if self.full or sample >= len(cases):
            return list(cases)
        chosen = sorted(random.Random(self.seed).sample(range(len(cases)), sample))
        return [cases[position] for position in chosen]

    def cases(self, *, sample: int, full: int) -> Iterator[int]:
        """Yield the seeds of a campaign; a soak goes on after the last case whose body raised nothing.

        Parameters
        ----------
        sample, full : int
            How many cases there are in `make test` and in `make soak`.
        """
        if not self.full:
            yield from range(self.seed, self.seed + sample)
            return
        for number in range(self.record.of(self.name).get("passed", 0), full):
            yield self.seed + number
            # Reached only when the loop's body asked for the next case, so this one passed.
            self.record.note(self.name, passed=number + 1, of=full)


@cache
def _digest_of(source: Path) -> str:
    """Return a digest of every Python file of the package."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
