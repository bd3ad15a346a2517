"""What the trail says of itself: heads of logs, who signs and witnesses them, what is not covered, proofs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

SignerKind = Literal["log", "witness"]
GapReason = Literal[
    "before loading",  # cells that ran before the extension was loaded
    "missing count",  # an execution count between two leaves that no leaf has
    "not finished",  # a cell began, and its kernel ended before it did
    "no log",  # the server saw a kernel run cells, and no log has any of it
    "not in the log",  # the server saw a cell that its kernel's log does not have
    "silent",  # requests that frontends send, and messages to widgets, beside the cells, without a count
    "not seen",  # a kernel without a log may have run cells before the server heard it
]


@dataclass(frozen=True, slots=True)
class Head:
    """A signed head of a session's transparency log.

    Parameters
    ----------
    session : str
        The log.
    size : int
        How many leaves it covers.
    root : str
        RFC 6962 root over them, base64.
    checkpoint : str
        The C2SP checkpoint, with the log's own signature.
    previous_size : int
        Size of the head that was published before, 0 for the first.
    consistency : tuple of str
        RFC 6962 consistency proof from `previous_size` to `size`, base64.
    """

    session: str
    size: int
    root: str
    checkpoint: str
    user: str
    host: str
    created_at: datetime
    previous_size: int = 0
    consistency: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cosignature:
    """What a witness signed: that a head continues everything that it saw of this log before.

    Parameters
    ----------
    witness : str
        Name of its key.
    line : str
        The signature lines of a C2SP note whose text says session, size and root: the log's own, then the
        witness's ``cosignature/v1``, a newline between. A witness alone could sign what the log never did;
        rows from before this have its line alone.
    """

    session: str
    size: int
    root: str
    witness: str
    line: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Signer:
    """A public key of the team.

    Parameters
    ----------
    kind : {"log", "witness"}
        What it signs.
    name : str
        Its C2SP key name.
    vkey : str
        The C2SP verifier key.
    seal : str
        Keyed BLAKE2b of the other values by the team's key, hexadecimal: only who has that key can name one.
    """

    kind: SignerKind
    name: str
    vkey: str
    user: str
    host: str
    created_at: datetime
    seal: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Cells that the trail does not cover.

    Parameters
    ----------
    reason : str
        Why they are not covered.
    kernel : str
        Id of the kernel, empty where unknown.
    session : str
        The log beside which they are missing, empty for a kernel without any.
    first_count, last_count : int or None
        Their execution counts, None where unknown.
    after, before : datetime or None
        Between which moments they ran.
    message : str
        One sentence.
    """

    reason: GapReason
    message: str
    kernel: str = ""
    session: str = ""
    notebook: str = ""
    first_count: int | None = None
    last_count: int | None = None
    after: datetime | None = None
    before: datetime | None = None

    @property
    def cells(self) -> int:
        """How many cells at least."""
        if self.first_count is None or self.last_count is None:
            return 0 if self.reason in {"not seen", "silent"} else 1
        return self.last_count - self.first_count + 1


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that a run is in a log, as `%audit prove` wrote it.

    Parameters
    ----------
    run_id : str
        The run.
    path : str
        The file, in the form of c2sp.org/tlog-proof@v1.
    size_bytes : int
        Its size without the leaf that it carries, bytes.
    tree_size : int
        How many leaves the log had.
    vkey : str
        The verifier key that checks it.
    witnesses : tuple of str
        Names of the witnesses whose cosignatures it carries.
    checker : str
        The script beside it that checks it; empty where none was asked for.
    """

    run_id: str
    path: str
    size_bytes: int
    tree_size: int
    vkey: str
    witnesses: tuple[str, ...] = ()
    checker: str = ""
