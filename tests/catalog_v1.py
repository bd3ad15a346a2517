"""A catalog as the first release wrote it, from its schemas word by word: what migrations start from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WRITTEN_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = {"models": "name", "prompts": "key", "runs": "id", "migrations": "version"}


def schemas() -> dict[str, Any]:
    """Return the four tables of schema 1."""
    import pyarrow as pa

    text, whole, instant = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")
    columns = {
        "models": {
            "name": text, "kind": text, "source": text, "digest": text, "family": text, "license": text,
            "parameters": whole, "context_length": whole, "size_bytes": whole, "site": text,
            "created_by": text, "created_at": instant,
        },
        "prompts": {
            "key": text, "name": text, "version": whole, "digest": text, "template": text, "system": text,
            "variables": pa.list_(text), "model": text, "parameters": text, "description": text,
            "created_by": text, "created_at": instant, "site": text,
        },
        "runs": {
            "id": text, "session": text, "seq": whole, "kind": text, "status": text, "started_at": instant,
            "seconds": pa.float64(), "user": text, "host": text, "notebook": text, "execution_count": whole,
            "parent": text, "model": text, "source": text, "tokens_in": whole, "tokens_out": whole,
            "error_type": text, "leaf_digest": text, "leaf": text, "site": text,
        },
        "migrations": {
            "version": whole, "name": text, "applied_by": text, "applied_at": instant,
            "package_version": text, "site": text,
        },
    }  # fmt: skip
    primary = {b"lance-schema:unenforced-primary-key:position": b"1"}
    return {
        table: pa.schema(
            [
                pa.field(
                    name,
                    kind,
                    nullable=name != KEYS[table],
                    metadata=primary if name == KEYS[table] else None,
                )
                for name, kind in fields.items()
            ]
        )
        for table, fields in columns.items()
    }


def build(folder: Path) -> None:
    """Create a catalog of schema 1 with one row of each noun in it."""
    import lancedb
    import pyarrow as pa

    said = {"site": "lab", "created_by": "grace", "created_at": WRITTEN_AT}
    rows: dict[str, list[dict[str, Any]]] = {
        "models": [
            said
            | {"name": "old", "kind": "llm", "source": "folder:/models/old", "digest": "sha256:" + "0" * 64}
            | {"parameters": 135, "size_bytes": 270}
        ],
        "prompts": [
            said
            | {"key": "greeting\x1f1", "name": "greeting", "version": 1, "digest": "sha256:" + "1" * 64}
            | {"template": "Hello {{ name }}", "system": "Be brief.", "variables": ["name"], "model": "old"}
            | {"parameters": '{"temperature": 0.5}', "description": "the first one"}
        ],
        "runs": [
            {"id": "0" * 16, "session": "s", "seq": 0, "kind": "cell", "status": "ok", "site": "lab"}
            | {"started_at": WRITTEN_AT, "seconds": 0.5, "user": "grace", "host": "lab", "leaf": '{"seq":0}'}
        ],
        "migrations": [
            {"version": 1, "name": "models, prompts and runs", "applied_by": "grace", "site": "lab"}
            | {"applied_at": WRITTEN_AT, "package_version": "0.1.0"}
        ],
    }
    database = lancedb.connect(str(folder))
    for table, schema in schemas().items():
        database.create_table(table, schema=schema).add(pa.Table.from_pylist(rows[table], schema=schema))
