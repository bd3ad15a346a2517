"""A user with a home of their own in this process: journals, keys, an agent's parts, one shared catalog."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from jupyter_llmops.agent.flush import Flusher
from jupyter_llmops.agent.heads import HeadKeeper
from jupyter_llmops.agent.witness import Witness
from jupyter_llmops.audit.files import head_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.leaf import canonical
from jupyter_llmops.audit.sealing import log_folder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.keys.signing import LogKeys


@dataclass
class TrailHome:
    """One user; `step` does what the agent does.

    Parameters
    ----------
    folder : Path
        The home.
    place : Path
        The catalog's folder.
    user : str
        Who.
    """

    folder: Path
    place: Path
    user: str
    host: str = "lab"
    patience: float = 0.0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.audit = self.folder / "audit"
        self.catalog = Catalog(self.place, site=self.host, user=self.user)
        self.start()

    def start(self) -> None:
        """Begin anew, as an agent that was started again does."""
        self.flusher = Flusher(self.audit, self.catalog)
        self.keeper = HeadKeeper(self.audit, self.catalog, keys=self.keys, tell=self.told.append)
        self.witness = Witness(
            self.audit, self.catalog, keys=self.keys, tell=self.told.append, patience=self.patience
        )

    def keys(self) -> LogKeys:
        """Return this user's keys."""
        return LogKeys.load(self.folder / "keys")

    def journal(self) -> Journal:
        """Return the journal of a new session."""
        context = {"user": self.user, "host": self.host, "catalog": str(self.place)}
        return Journal(self.audit, context=context)

    def publish(self) -> int:
        """Carry lines and publish heads, whether it is time or not; return how many heads were new."""
        self.flusher.flush()
        self.keeper.seal(closing=True)
        return self.keeper.publish()

    def look(self) -> int:
        """Countersign; return how many cosignatures were added."""
        return self.witness.look(at_once=True)


def stamp(journal: Journal, count: int = 1) -> None:
    """Add some runs to a journal."""
    for number in range(count):
        journal.stamp("cell", fields={"execution_count": number})
    journal.flush()


def rewrite(home: TrailHome, journal: Journal, keep: int, count: int) -> None:
    """Make a user's log anew from record `keep` on, with `count` records in all, as only its owner can."""
    journal.close()
    lines = journal.path.read_bytes().splitlines()[:keep]
    while len(lines) < count:
        leaf = json.loads(lines[-1]) | {
            "seq": len(lines),
            "id": sha256(b"%d" % len(lines)).hexdigest()[:16],
            "prev": sha256(lines[-1]).hexdigest(),
            "kind": "cell",
        }
        lines.append(canonical(leaf))
    journal.path.write_bytes(b"".join(line + b"\n" for line in lines))
    mark = f"{len(lines) - 1:>20d} {sha256(lines[-1]).hexdigest()}"
    head = "".join(f"{word} {mark}".ljust(103) + "\n" for word in ("wanted", "closed"))
    head_path(home.audit, journal.session).write_text(head)
    shutil.rmtree(log_folder(home.audit, journal.session))
