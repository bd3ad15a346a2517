"""How long a campaign of kills, forgeries or injected faults is, and what of it was already done."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

Case = TypeVar("Case")
SEED = 20261122


@dataclass(frozen=True)
class SoakScale:
    """The size of one campaign.

    Parameters
    ----------
    name : str
        The test that runs it.
    full : bool
        True in a soak: every case; else a seeded sample.
    folder : Path
        Where a soak remembers the cases that passed.
    source : Path
        The code under test; what passed on other code doesn't count.
    seed : int
        Seed of the sample.
    """

    name: str
    full: bool
    folder: Path
    source: Path
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
        """Yield the seeds of a campaign; one whose body raised nothing is not run again in a soak.

        Parameters
        ----------
        sample, full : int
            How many cases there are in `make test` and in `make soak`.
        """
        if not self.full:
            yield from range(self.seed, self.seed + sample)
            return
        digest = _digest_of(self.source)
        done = self._done(digest)
        for case in range(self.seed, self.seed + full):
            if case in done:
                continue
            yield case
            # Reached only when the loop's body asked for the next case, so this one passed.
            done.add(case)
            self._remember(case, digest, of=full, passed=len(done))

    @property
    def record(self) -> Path:
        """The file with one line for every case that passed."""
        return self.folder / (re.sub(r"\W+", "-", self.name).strip("-") + ".jsonl")

    def _done(self, digest: str) -> set[int]:
        if not self.record.exists():
            return set()
        lines = [json.loads(line) for line in self.record.read_text("utf-8").splitlines() if line.strip()]
        return {line["case"] for line in lines if line["source"] == digest}

    def _remember(self, case: int, digest: str, *, of: int, passed: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {
            "case": case,
            "passed": passed,
            "of": of,
            "source": digest,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self.record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@cache
def _digest_of(source: Path) -> str:
    """Return a digest of every Python file of the package."""
    digest = hashlib.sha256()
    for path in sorted(source.rglob("*.py")):
        digest.update(path.relative_to(source).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
