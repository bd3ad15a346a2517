"""Whether the catalog's rows of this user say what the journals say; what does not is put right and said.

A row holds its journal line and columns that were made of it. So a row is right when its line has the digest
that it says and its columns are what `run_row` makes of the line; whether it is the line of that place in the
journal is for `audit.verification` to say. ``site``, where the agent ran that carried it, is not of the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.agent.flush import readable_runs, require_catalog, session_of
from jupyter_llmops.agent.row_columns import TEXTS, SuspectRows
from jupyter_llmops.agent.screening import RowScreen
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.reading import list_journals, parse_run
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.connection import sql_text
from jupyter_llmops.catalog.run_rows import RUN_FIELDS, run_row
from jupyter_llmops.catalog.schemas import json_value
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.records.run import Problem, Run

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = (*RUN_FIELDS, "cost_millionths")
_TWICE = "twice"
_SHOWN = 5
# So many names in one filter; more are asked for in several.
_MOST_NAMES = 500


@dataclass(frozen=True, slots=True)
class _Fault:
    """A row that is not what its line says: which one, and which columns differ."""

    session: str
    seq: int | None
    row: Mapping[str, Any]
    columns: tuple[str, ...]


class RowCheck:
    """The catalog's rows of one user on one host.

    Parameters
    ----------
    folder : Path
        The audit folder.
    catalog : Catalog
        Whose rows; its user and site say of whom.

    Attributes
    ----------
    published : dict of session to dict of seq to ``sha256:…``
        What the rows say to hold.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = Path(folder)
        self._catalog = catalog
        self._here = {session_of(path) for path in list_journals(self._folder)}
        self.published: dict[str, dict[int, str]] = {}
        self._faults: list[_Fault] = []
        self._withheld: list[_Fault] = []
        self._lost: dict[str, list[int]] = {}
        self._runs: dict[str, dict[int, Run]] = {}

    def read(self, carried: Mapping[str, int]) -> None:
        """Look at all rows; do it before a flush, which carries again what it misses.

        Parameters
        ----------
        carried : mapping of session to seq
            The last line of each session that the catalog has acknowledged.

        Raises
        ------
        CatalogError
            The catalog can't be read, or is not there although it has acknowledged something.
        """
        require_catalog(self._catalog, carried)
        user, host = sql_text(self._catalog.user), sql_text(self._catalog.site)
        self._scan(f"user = {user} AND host = {host}")
        # Rows of these sessions that say to be of somebody else.
        others = f"(user IS NULL OR host IS NULL OR user != {user} OR host != {host})"
        names = sorted(self._here)
        for begin in range(0, len(names), _MOST_NAMES):
            chosen = ", ".join(map(sql_text, names[begin : begin + _MOST_NAMES]))
            self._scan(f"session IN ({chosen}) AND {others}")
        self._judge_withheld()
        self._find_lost(carried)

    def mend(self) -> tuple[Problem, ...]:
        """Put right what can be, and return what was found."""
        wrong: dict[str, list[_Fault]] = {}
        for fault in self._faults:
            wrong.setdefault(fault.session, []).append(fault)
        problems: list[Problem] = []
        for session in sorted({*wrong, *self._lost}):
            problems += self._mend(session, wrong.get(session, []), self._lost.get(session, []))
        return tuple(problems)

    # -- reading ------------------------------------------------------------------------------

    def _scan(self, where: str) -> None:
        def read(
            batches: Iterable[pa.RecordBatch],
        ) -> tuple[list[_Fault], list[_Fault], dict[str, dict[int, str]]]:
            faults: list[_Fault] = []
            withheld: list[_Fault] = []
            published: dict[str, dict[int, str]] = {}
            with SuspectRows() as rows:
                for batch, suspects in rows.find(batches):
                    twice = _take_published(batch, published, self.published)
                    for place in sorted(suspects | twice):
                        row = {name: batch[name][place].as_py() for name in batch.schema.names}
                        _judge(row, faults, withheld, twice=place in twice)
            return faults, withheld, published

        found = self._catalog.runs.scan(where, _COLUMNS, read)
        if found is None:
            return
        self._faults += found[0]
        self._withheld += found[1]
        for session, rows in found[2].items():
            self.published.setdefault(session, {}).update(rows)

    def _judge_withheld(self) -> None:
        """Compare rows whose line is withheld with what the agent makes of their journal's line."""
        screen = RowScreen() if self._withheld else None
        for fault in self._withheld:
            assert screen is not None
            run = self._runs_of(fault.session).get(-1 if fault.seq is None else fault.seq)
            if run is None:
                continue  # of another home, or in no journal, which is said elsewhere
            columns = _differing(fault.row, run_row(screen.screen(run), ""))
            # Which kinds of secrets it seems to hold changes with the version that looks.
            if columns and columns != ("leaf",):
                self._faults.append(replace(fault, columns=columns))
            elif columns and screen.screen(run) is run:
                self._faults.append(replace(fault, columns=("leaf",)))

    def _find_lost(self, carried: Mapping[str, int]) -> None:
        for session in sorted(carried.keys() & self._here):
            missing = set(range(carried[session] + 1)) - self.published.get(session, {}).keys()
            if missing and (lost := sorted(missing & self._runs_of(session).keys())):
                self._lost[session] = lost

    def _runs_of(self, session: str) -> dict[int, Run]:
        """Return the runs of a journal by line; few sessions are asked for."""
        if session not in self._runs:
            path = journal_path(self._folder, session)
            here = session in self._here
            self._runs[session] = {run.seq: run for run in readable_runs(path, -1)} if here else {}
        return self._runs[session]

    # -- mending ------------------------------------------------------------------------------

    def _mend(self, session: str, faults: list[_Fault], lost: list[int]) -> list[Problem]:
        runs = self._runs_of(session)
        safe = [fault for fault in faults if _is_of(fault, runs)]
        ids = sorted({one for fault in safe if isinstance(one := fault.row.get("id"), str)})
        seqs = {seq for seq, run in runs.items() if run.id in ids} | set(lost)
        seqs |= {fault.seq for fault in safe if fault.seq is not None}
        done = self._replace(session, ids, [runs[seq] for seq in sorted(seqs)])
        problems = []
        for fault in faults:
            said = (
                "it stands in the catalog more than once" if fault.columns == (_TWICE,)
                else f"its row in the catalog was changed ({', '.join(fault.columns)})"
            )  # fmt: skip
            after = (done or "it was put right") if fault in safe else "it was left as it is"
            problems.append(_problem(session, fault.seq, str(fault.row.get("id") or ""), f"{said}; {after}"))
        covered = {fault.seq for fault in faults if fault in safe}
        if gone := [seq for seq in lost if seq not in covered]:
            what = "1 record is" if len(gone) == 1 else f"{len(gone):,} records are"
            after = done or "carried again"
            seq = gone[0] if len(gone) == 1 else None
            run_id = runs[gone[0]].id if len(gone) == 1 else ""
            problems.append(
                _problem(
                    session, seq, run_id, f"{what} not in the catalog any more: seq {_some(gone)}; {after}"
                )
            )
        return problems

    def _replace(self, session: str, ids: list[str], runs: list[Run]) -> str:
        """Put the true rows in place of some; return why that could not be done, empty where it was."""
        if not runs and not ids:
            return ""
        where = ""
        if ids:
            chosen = ", ".join(map(sql_text, ids))
            user, host = sql_text(self._catalog.user), sql_text(self._catalog.site)
            where = (
                f"id IN ({chosen}) AND (session = {sql_text(session)} OR (user = {user} AND host = {host}))"
            )
        screen = RowScreen()
        try:
            self._catalog.runs.replace(where, [screen.screen(run) for run in runs])
            there = self._catalog.runs.digests_of(run.id for run in runs)
        except CatalogError as error:
            return f"it could not be put right: {error.message}"
        if any(there.get(run.id) != run.leaf_digest for run in runs):
            return "it could not be put right, as another row has its id"
        return ""


def _take_published(
    batch: pa.RecordBatch, published: dict[str, dict[int, str]], before: Mapping[str, Mapping[int, str]]
) -> set[int]:
    """Note which lines are there; return the places of rows whose line was there already."""
    twice = set()
    columns = (batch[name].to_pylist() for name in ("session", "seq", "leaf_digest"))
    for place, (session, seq, digest) in enumerate(zip(*columns, strict=True)):
        # A row that this package did not write may lack any of them.
        if not session or type(seq) is not int or seq < 0 or not digest:
            continue
        rows = published.get(session)
        if rows is None:
            rows = published[session] = {}
        if seq in rows or (session in before and seq in before[session]):
            twice.add(place)
        else:
            rows[seq] = digest
    return twice


def _judge(row: dict[str, Any], faults: list[_Fault], withheld: list[_Fault], *, twice: bool) -> None:
    """Compare one row with what its own line makes of it."""
    text = row["leaf"] or ""
    leaf = json_value(text)
    session, seq = row["session"] or "", row["seq"]
    if isinstance(leaf, dict) and leaf.keys() == {"withheld"}:
        said = _Fault(session, seq, row, (_TWICE,) if twice else ())
        (faults if twice else withheld).append(said)
        return
    line = text.encode("utf-8", "replace")
    run = None
    if isinstance(leaf, dict):
        places = leaf.get("session"), leaf.get("seq")
        if isinstance(places[0], str) and type(places[1]) is int:
            run = parse_run(line, places[0], places[1])
    if run is None:
        faults.append(_Fault(session, seq, row, ("leaf",)))
        return
    columns = _differing(row, run_row(run, "")) or ((_TWICE,) if twice else ())
    if columns:
        # Named by the place where it belongs, which its columns may not say any more.
        faults.append(_Fault(run.session, run.seq, row, columns))


def _differing(row: Mapping[str, Any], expected: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        name for name in _COLUMNS
        if name in row and (row[name] or "" if name in TEXTS else row[name]) != expected[name]
    )  # fmt: skip


def _is_of(fault: _Fault, runs: Mapping[int, Run]) -> bool:
    """Return whether a row was made of a line of the journal: else it may be evidence of another one."""
    run = runs.get(-1 if fault.seq is None else fault.seq)
    if run is None or not fault.row:
        return False
    line = (fault.row.get("leaf") or "").encode("utf-8", "replace")
    return run.leaf_digest in (fault.row.get("leaf_digest"), "sha256:" + sha256(line).hexdigest())


def _problem(session: str, seq: int | None, run_id: str, message: str) -> Problem:
    where = f"session {session}" + (f", record {seq}" if seq is not None else "")
    return Problem(session, seq, run_id, f"{where}: {message}")


def _some(seqs: list[int]) -> str:
    return ", ".join(map(str, seqs[:_SHOWN])) + (", …" if len(seqs) > _SHOWN else "")
