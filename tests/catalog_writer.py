"""A process that writes to a catalog and says each acknowledged write in a line of JSON.

``python tests/catalog_writer.py PLACE KIND WRITER COUNT``; KIND is one of `WRITES`. It says
"ready" first, waits for a line on its standard input, then writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import ConflictError, UsageError
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.run import Run

START = datetime(2026, 1, 1, tzinfo=UTC)


def a_run(session: str, seq: int, **changes: object) -> Run:
    """Return a plausible run whose id follows from its session and line."""
    values: dict[str, object] = {
        "id": f"{abs(hash_of(session)):08x}{seq:08x}",
        "session": session,
        "seq": seq,
        "kind": "cell",
        "status": "ok",
        "started_at": START + timedelta(seconds=seq),
        "seconds": 0.25,
        "user": "ada",
        "host": "lab",
        "leaf": {"seq": seq, "session": session},
        "leaf_digest": f"sha256:{seq:064x}",
    }
    return Run(**(values | changes))  # type: ignore[arg-type]


def hash_of(text: str) -> int:
    """Return 32 bits that are the same in every process."""
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value


def same_name(catalog: Catalog, writer: str, number: int) -> object:
    """Publish new content under the one name that every writer uses."""
    return catalog.prompts.publish("shared", f"{writer} {number}").version


def same_content(catalog: Catalog, writer: str, number: int) -> object:
    """Publish what every other writer publishes too."""
    return catalog.prompts.publish("agreed", f"text {number}").version


def runs(catalog: Catalog, writer: str, number: int) -> object:
    """Append three runs in one commit."""
    batch = [a_run(writer, number * 3 + offset) for offset in range(3)]
    catalog.runs.append(batch)
    return [run.id for run in batch]


def everything(catalog: Catalog, writer: str, number: int) -> object:
    """Create the catalog, add a contested model, publish the same content, publish new content, move an alias."""
    return [
        catalog.migrate(),
        models(catalog, writer, number),
        same_content(catalog, writer, number),
        same_name(catalog, writer, number),
        alias(catalog, writer, number),
    ]


def models(catalog: Catalog, writer: str, number: int) -> object:
    """Add a model of the same name and other files than everyone else's."""
    try:
        return catalog.models.add(Model("contested", "llm", "folder:/m", digest=f"sha256:{writer}")).digest
    except UsageError as error:
        return type(error).__name__


def migrate(catalog: Catalog, writer: str, number: int) -> object:
    """Bring the catalog to this package's schema, then write what only this schema can hold."""
    version = catalog.migrate()
    return [version, catalog.changes.move("prompt", f"{writer} {number}", "tags", ["new"]).revision]


def counter(catalog: Catalog, writer: str, number: int) -> object:
    """Add one to an alias that others move, too."""
    return catalog.changes.update("prompt", "shared", "alias:count", lambda seen: (seen or 0) + 1).value


def whole(catalog: Catalog, writer: str, number: int) -> object:
    """Do all of it, for where starting a process costs more than its writes."""
    return [
        everything(catalog, writer, number),
        counter(catalog, writer, number),
        runs(catalog, writer, number),
    ]


def alias(catalog: Catalog, writer: str, number: int) -> object:
    """Move the one alias that every writer moves, from where it was seen last."""
    while True:
        seen = max((move.revision for move in catalog.models.aliases()), default=0)
        try:
            move = catalog.changes.move("model", "", "alias:prod", f"{writer} {number}", expected=seen)
        except ConflictError:
            continue
        return move.revision


WRITES: dict[str, Callable[[Catalog, str, int], object]] = {
    "same_name": same_name,
    "runs": runs,
    "everything": everything,
    "migrate": migrate,
    "whole": whole,
}


def main(place: str, kind: str, writer: str, count: str) -> None:
    """Write `count` times."""
    import lancedb  # noqa: F401 - imported before "ready", so that all begin at one time

    catalog = Catalog(place, site="here", user=writer)
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        answer = WRITES[kind](catalog, writer, number)
        print(json.dumps([writer, number, answer]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
