"""Several processes may create or migrate a catalog at one time: to whoever comes second nothing happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.catalog import storage
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import MODELS, schema_of
from jupyter_llmops.location import Location


def test_a_table_that_somebody_creates_in_between_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Connection(Location.parse(tmp_path)).create(MODELS)
    late = Connection(Location.parse(tmp_path))
    looks = iter([False])  # the look before creating was too early
    monkeypatch.setattr(late, "has", lambda table: next(looks, True))
    late.create(MODELS)
    assert late.count(MODELS) == 0


def test_columns_that_somebody_adds_in_between_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    monkeypatch.setattr(storage, "QUEUE_SECONDS", 0.05)  # the one writes while the other does
    connection = Connection(Location.parse(tmp_path))
    short = pa.schema([field for field in schema_of(MODELS) if field.name != "base"])
    connection.create(MODELS, short)
    late = Connection(Location.parse(tmp_path))
    stale = late._table

    def table(name: str) -> object:
        handle = stale(name)
        if "base" not in handle.schema.names:
            connection.add_missing_columns(MODELS)  # between the look and the commit
        return handle

    monkeypatch.setattr(late, "_table", table)
    late.add_missing_columns(MODELS)
    assert "base" in late._table(MODELS).schema.names
