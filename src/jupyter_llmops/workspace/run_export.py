"""Handing runs on: to a spreadsheet, or as OpenTelemetry's spans to a collector."""

from __future__ import annotations

import logging
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jupyter_llmops.errors import AuditError, MissingDependencyError, UsageError
from jupyter_llmops.records.run_search import ALL_KINDS, RATINGS, RunExport
from jupyter_llmops.workspace.parts import Progress
from jupyter_llmops.workspace.run_filters import run_filter
from jupyter_llmops.workspace.run_finding import RunFinding
from jupyter_llmops.workspace.trail import MOST_RUNS

if TYPE_CHECKING:
    from jupyter_llmops.records.run import Run

FORMATS = ("csv", "otel")
_AT_ONCE = 500
# Of one request with its repetitions, and of looking whether anybody listens.
_SECONDS, _SECONDS_AT_FIRST = 15, 3
# What an export of ours begins with: nothing else is replaced.
_TABLE_BEGINS = b"id,session,seq,kind,"
_SPANS_BEGIN = b'{"resourceSpans": ['


class RunExports(RunFinding):
    """How a workspace hands runs on."""

    def export_runs(
        self,
        file: str | Path,
        format: str = "csv",
        *,
        content: bool = False,
        headers: Mapping[str, str] | None = None,
        progress: Progress | None = None,
        **filters: Any,
    ) -> RunExport:
        """Write runs to a file, or send them to an OpenTelemetry collector; the oldest first.

        Ids of traces and spans follow from those of sessions and runs: exporting again replaces, never doubles.

        Parameters
        ----------
        file : str or Path
            A file; for "otel" also an ``http(s)://`` address of OTLP, ``/v1/traces`` by default.
        format : {"csv", "otel"}
            A table, or spans in the semantic conventions for generative AI, in a file as lines of OTLP's JSON.
        content : bool
            Also what runs said, redacted.
        headers : mapping, optional
            Of the requests to a collector; else those in ``OTEL_EXPORTER_OTLP_HEADERS``.
        progress : callable, optional
            Gets a sentence and a fraction.
        **filters
            As in `find_runs`, but runs of every kind by default.

        Raises
        ------
        UsageError
            The format, the file or a filter is not valid, or no run fits; or the file is there and no export.
        AuditError
            The file can't be written, or the collector refused.
        MissingDependencyError
            OpenTelemetry is not installed.
        """
        if format not in FORMATS:
            raise UsageError(f"Runs are exported as csv or otel, not as {format!r}.", "Type --format otel.")
        address = str(file) if "://" in str(file) else ""
        if address and format != "otel":
            raise UsageError(
                "A table is written to a file, not to an address.", "Type --format otel for that."
            )
        if not str(file) or not isinstance(file, str | Path):
            raise UsageError(f"{file!r} is not the name of a file.", "Name one, e.g. runs.csv.")
        chosen = run_filter({"kind": ALL_KINDS} | {name: one for name, one in filters.items() if one})
        self._flush_or_warn()
        ids = self.catalog.run_search.newest_ids(chosen, MOST_RUNS)[::-1]
        if not ids:
            if any(filters.values()):
                raise UsageError("No run fits, so nothing was exported.", "Take a filter away.")
            raise UsageError(
                "This catalog has no runs yet, so nothing was exported.", "Run a cell and export again."
            )
        ratings = {run_id: said for said in RATINGS for run_id in self.catalog.run_search.rated(said)}

        def batches() -> Iterator[Sequence[Run]]:
            for start in range(0, len(ids), _AT_ONCE):
                if progress is not None:
                    progress(f"Exporting {len(ids):,} runs", start / len(ids))
                yield self.catalog.run_search.by_ids(ids[start : start + _AT_ONCE])

        if format == "csv":
            return self._as_csv(Path(file).expanduser(), batches(), ratings, content=content)
        if address:
            with _collector(address, headers) as send:
                return self._as_spans(address, ids, batches, ratings, send, content=content)
        path = Path(file).expanduser()
        with _replaced(path, _SPANS_BEGIN) as lines:
            from jupyter_llmops.audit.run_spans import json_lines

            def write(spans: Sequence[Any]) -> None:
                lines.writelines(f"{line}\n" for line in json_lines(spans))

            return self._as_spans(str(path), ids, batches, ratings, write, content=content)

    def _as_csv(
        self, path: Path, batches: Iterator[Sequence[Run]], ratings: Mapping[str, str], *, content: bool
    ) -> RunExport:
        from jupyter_llmops.audit.run_csv import write_csv

        count, sessions = 0, set()
        with _replaced(path, _TABLE_BEGINS) as file:
            for runs in batches:
                texts = self.catalog.run_search.texts([run.id for run in runs]) if content else None
                write_csv(file, runs, ratings, texts, head=not count)
                count += len(runs)
                sessions |= {run.session for run in runs}
        return RunExport(str(path), "csv", count, len(sessions))

    def _as_spans(
        self,
        target: str,
        ids: Sequence[str],
        batches: Callable[[], Iterator[Sequence[Run]]],
        ratings: Mapping[str, str],
        write: Callable[[Sequence[Any]], None],
        *,
        content: bool,
    ) -> RunExport:
        from jupyter_llmops.audit.run_spans import SpanMaker

        make = SpanMaker(set(ids))
        begun: dict[str, Run] = {}
        ended: dict[str, Any] = {}
        for runs in batches():
            for run in runs:
                begun.setdefault(run.session, run)
                end = run.started_at + timedelta(seconds=max(0.0, run.seconds))
                ended[run.session] = max(end, ended.get(run.session, end))
        roots = [
            make.session(name, run.user, run.host, run.started_at, ended[name]) for name, run in begun.items()
        ]
        for start in range(0, len(roots), _AT_ONCE):
            write(roots[start : start + _AT_ONCE])
        count = 0
        for runs in batches():
            # A journal's own leaf says of the session what its root span says.
            inner = [run for run in runs if run.kind != "session"]
            write(
                [
                    make.run(run, ratings.get(run.id, ""), self.texts_of(run) if content else None)
                    for run in inner
                ]
            )
            count += len(runs)
        return RunExport(target, "otel", count, len(begun))


@contextmanager
def _replaced(path: Path, begins: bytes) -> Iterator[TextIO]:
    """Open a file that takes the place of an older export when it is whole, and not before."""
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder.", f"Name a file in it, e.g. {path / 'runs.csv'}")
        if path.exists():
            with path.open("rb") as there:
                if there.read(len(begins)) not in (begins, b""):
                    raise UsageError(
                        f"{path} is there, is no export of this format, and was left as it is.",
                        "Name another file.",
                    )
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                yield file
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise AuditError(
            f"{path} can't be written: {error.strerror}.", "Name a file in a folder that you can write to."
        ) from error


@contextmanager
def _collector(address: str, headers: Mapping[str, str] | None) -> Iterator[Callable[[Sequence[Any]], None]]:
    """Give what sends spans to an address of OTLP over HTTP."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise UsageError(
            "That is no address of a collector.",
            "Type http://host:4318/v1/traces; credentials belong into OTEL_EXPORTER_OTLP_HEADERS.",
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult
    except ImportError:
        raise MissingDependencyError("The export to OpenTelemetry", "otel") from None
    whole = parts._replace(path=parts.path if parts.path.strip("/") else "/v1/traces").geturl()
    _see_that_it_listens(parts)
    exporter = OTLPSpanExporter(endpoint=whole, headers=dict(headers) if headers else None, timeout=_SECONDS)

    def send(spans: Sequence[Any]) -> None:
        with _quiet("opentelemetry"):
            taken = not spans or exporter.export(spans) is SpanExportResult.SUCCESS
        if not taken:
            raise AuditError(
                f"{whole} did not take the spans.",
                "See that it listens for OTLP over HTTP, and set OTEL_EXPORTER_OTLP_HEADERS where it wants some.",
            )

    try:
        yield send
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]


def _see_that_it_listens(address: urllib.parse.SplitResult) -> None:
    """Refuse an address where nobody listens: the exporter would try for long."""
    import socket
    from urllib.request import getproxies, proxy_bypass

    try:
        place = (address.hostname or "", address.port or (443 if address.scheme == "https" else 80))
    except ValueError:
        raise UsageError("That port is no port of a collector.", "Type http://host:4318/v1/traces.") from None
    if getproxies().get(address.scheme) and not proxy_bypass(place[0]):
        return  # only the proxy can say
    try:
        socket.create_connection(place, _SECONDS_AT_FIRST).close()
    except OSError as error:
        raise AuditError(
            f"Nobody listens at {place[0]}:{place[1]}: {error.strerror or error}.",
            "Start the collector, or name its address; OTLP over HTTP has port 4318 by default.",
        ) from None


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep what a library logs of a failure from stderr: the error that is raised says it."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
