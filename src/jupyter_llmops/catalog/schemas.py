"""The tables of the catalog as Arrow schemas, and the version of their whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

SCHEMA_VERSION = 3

MODELS = "models"
PLACES = "places"
PROMPTS = "prompts"
COLLECTIONS = "collections"
CHANGES = "changes"
MEANINGS = "meanings"
RUNS = "runs"
CONTENTS = "contents"
HEADS = "heads"
COSIGNATURES = "cosignatures"
SIGNERS = "signers"
SNAPSHOTS = "snapshots"
LEASES = "leases"
MIGRATIONS = "migrations"

KEYS = {
    MODELS: "name",
    PLACES: "key",
    PROMPTS: "key",
    COLLECTIONS: "name",
    CHANGES: "key",
    MEANINGS: "key",
    RUNS: "id",
    CONTENTS: "id",
    HEADS: "key",
    COSIGNATURES: "key",
    SIGNERS: "key",
    SNAPSHOTS: "name",
    LEASES: "name",
    MIGRATIONS: "version",
}
"""The column whose values are unique, by table."""

ITEMS_PREFIX = "items-"
"""How the tables of collections begin: one each, named by a digest and never by what a user typed."""
ITEMS_KEY = "id"

# What a table's rows are, in a sentence: the README's table of the catalog is made of these.
PURPOSES = {
    MODELS: "The inventory of models; immutable rows but for a digest that was not known yet",
    PLACES: "Where the files of a model are known to lie: host and folder, package, endpoint, the team's storage",
    PROMPTS: "Saved prompts, one immutable row a version",
    COLLECTIONS: "Vector stores and the embedding space of each; the passages lie in a table of their own",
    CHANGES: "All that moves, one row a move: aliases, what is retired, descriptions and tags",
    MEANINGS: "Vectors of what models, prompts and collections are about, for finding them by meaning",
    RUNS: "The leaves of everybody's audit trail, without content",
    CONTENTS: "What runs said, redacted, for finding them by text and meaning; forgetting a run deletes its row",
    HEADS: "Signed heads of the sessions' transparency logs",
    COSIGNATURES: "What witnesses signed: that a head continues all they saw of its log before",
    SIGNERS: "Public keys of those who sign heads and of witnesses, sealed by the team's key",
    SNAPSHOTS: "Named releases of the whole catalog",
    LEASES: "Who does the upkeep now",
    MIGRATIONS: "The steps that brought the catalog to its schema",
}

# Lance reads the primary key from the field's metadata; a table created with it has it from its
# first version on, so no writer can ever see the table without its key.
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}


def schema_of(table: str) -> pa.Schema:
    """Return the Arrow schema that a new table is created with.

    Parameters
    ----------
    table : str
        One of the keys of `KEYS`.
    """
    import pyarrow as pa

    text, whole, instant = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
    columns: dict[str, dict[str, pa.DataType]] = {
        MODELS: {
            "name": text,
            "kind": text,
            "source": text,
            "digest": text,
            "family": text,
            "license": text,
            "parameters": whole,
            "context_length": whole,
            "size_bytes": whole,
            "site": text,
            "created_by": text,
            "created_at": instant,
            "format": text,
            "quantizations": pa.list_(text),
            "base": text,
            "base_digest": text,
            "data_digest": text,
            "files": text,  # JSON: a list of [path, size in bytes, sha256]
            "signed_by": text,
            "credential": text,  # env:NAME or keyring:SERVICE/USER, never a secret
        },
        PLACES: {
            "key": text,  # model + U+001F + site + U+001F + source
            "model": text,
            "digest": text,
            "site": text,
            "source": text,
            "created_by": text,
            "created_at": instant,
        },
        PROMPTS: {
            "key": text,  # name + U+001F + version
            "name": text,
            "version": whole,
            "digest": text,
            "template": text,
            "system": text,
            "variables": pa.list_(text),
            "model": text,
            "parameters": text,  # JSON object
            "description": text,
            "created_by": text,
            "created_at": instant,
            "site": text,
            "declarations": text,  # JSON: a list of objects
            "includes": pa.list_(text),  # NAME@VERSION
        },
        COLLECTIONS: {
            "name": text,
            "space": text,  # JSON object: the embedding space it began with
            "chunking": text,  # JSON object
            "created_by": text,
            "created_at": instant,
            "site": text,
        },
        CHANGES: {
            "key": text,  # entry + U+001F + revision: the next revision can be added by one writer only
            "entry": text,  # noun + U+001F + name + U+001F + field
            "noun": text,
            "name": text,
            "field": text,
            "value": text,  # JSON
            "revision": whole,
            "reason": text,
            "created_by": text,
            "created_at": instant,
            "site": text,
        },
        MEANINGS: {
            "key": text,  # noun + U+001F + name + U+001F + digest of the text + U+001F + digest of the space
            "noun": text,
            "name": text,
            "text_digest": text,
            "space": text,  # digest of the embedding space
            "vector": pa.list_(pa.float32()),
            "created_by": text,
            "created_at": instant,
            "site": text,
        },
        RUNS: {
            "id": text,
            "session": text,
            "seq": whole,
            "kind": text,
            "status": text,
            "started_at": instant,
            "seconds": pa.float64(),
            "user": text,
            "host": text,
            "notebook": text,
            "execution_count": whole,
            "parent": text,
            "model": text,
            "source": text,
            "tokens_in": whole,
            "tokens_out": whole,
            "error_type": text,
            "leaf_digest": text,
            "leaf": text,  # the journal line
            "site": text,
            "cost_millionths": whole,  # of the leaf, to look for it
        },
        CONTENTS: {
            "id": text,  # of the run
            "session": text,
            "seq": whole,
            "user": text,
            "kind": text,
            "title": text,  # its first line
            "text": text,  # the redacted source, or prompt and answer
            "created_at": instant,
            "site": text,
        },
        HEADS: {
            "key": text,  # session + U+001F + size + U+001F + digest of what the row says
            "session": text,
            "size": whole,
            "root": text,  # base64 of 32 bytes
            "checkpoint": text,  # a C2SP checkpoint with the log's own signature
            "previous_size": whole,
            "consistency": text,  # JSON: a list of base64, the RFC 6962 proof from previous_size to size
            "user": text,
            "host": text,
            "created_at": instant,
            "site": text,
        },
        COSIGNATURES: {
            "key": text,  # session + U+001F + size + U+001F + digest of witness and line
            "session": text,
            "size": whole,
            "root": text,
            "witness": text,  # its key's name
            "line": text,  # the log's C2SP signature line, then the witness's cosignature/v1
            "created_at": instant,
            "site": text,
        },
        SIGNERS: {
            "key": text,  # the verifier key + U+001F + seal
            "kind": text,  # log or witness
            "name": text,
            "vkey": text,
            "user": text,
            "host": text,
            "seal": text,  # keyed BLAKE2b of the other columns by the team's key, hexadecimal
            "created_at": instant,
            "site": text,
        },
        SNAPSHOTS: {
            "name": text,
            "versions": text,  # JSON object: table to version
            "branch": text,  # the Lance branch of each table
            "description": text,
            "created_by": text,
            "created_at": instant,
            "site": text,
        },
        LEASES: {
            "name": text,
            "holder": text,
            "revision": whole,  # moved by compare-and-set
            "expires_at": instant,
            "site": text,
        },
        MIGRATIONS: {
            "version": whole,
            "name": text,
            "applied_by": text,
            "applied_at": instant,
            "package_version": text,
            "site": text,
        },
    }
    key = KEYS[table]
    return pa.schema(
        [
            pa.field(name, kind, nullable=name != key, metadata=PRIMARY_KEY if name == key else None)
            for name, kind in columns[table].items()
        ]
    )


def rows_of(found: pa.Table | None) -> list[dict[str, Any]]:
    """Return Arrow rows as dictionaries, instants as datetimes in `datetime.UTC`.

    Arrow itself would ask for the operating system's time zones, which slim containers lack.
    """
    if found is None:
        return []
    import pyarrow as pa

    columns = {}
    for name, column in zip(found.column_names, found.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            stamps = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
            columns[name] = [None if n is None else _instant(n) for n in stamps]
        else:
            columns[name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


# What comes of reading a row that this package did not write.
NOT_UNDERSTOOD = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)


def understood(rows: Iterable[dict[str, Any]], make: Callable[[dict[str, Any]], T]) -> list[T]:
    """Return what `make` makes of each row, without those that mean nothing: one must not hide the others."""
    found = []
    for row in rows:
        try:
            found.append(make(row))
        except NOT_UNDERSTOOD:
            continue
    return found


def json_value(text: Any) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return json.loads(text or "null")
    except NOT_UNDERSTOOD:
        return None


def _instant(microseconds: int) -> datetime | None:
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    except OverflowError:  # the year 300,000
        return None
