"""The tables of the catalog as Arrow schemas, and the version of their whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1

MODELS = "models"
PROMPTS = "prompts"
RUNS = "runs"
MIGRATIONS = "migrations"

KEYS = {MODELS: "name", PROMPTS: "key", RUNS: "id", MIGRATIONS: "version"}
"""The column whose values are unique, by table."""

# Lance reads the primary key from the field's metadata; a table created with it has it from its
# first version on, so no writer can ever see the table without its key.
_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}


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
            pa.field(name, kind, nullable=name != key, metadata=_PRIMARY_KEY if name == key else None)
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

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    columns = {}
    for name, column in zip(found.column_names, found.columns, strict=True):
        if pa.types.is_timestamp(column.type):
            stamps = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
            columns[name] = [None if n is None else epoch + timedelta(microseconds=n) for n in stamps]
        else:
            columns[name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
