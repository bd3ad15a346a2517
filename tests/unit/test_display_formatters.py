"""Every record that is registered has its views, by the names that the table says."""

from __future__ import annotations

from importlib import import_module

import pytest

from jupyter_llmops.display.formatters import VIEWS, view


@pytest.mark.parametrize(("record", "views"), VIEWS.items())
def test_the_table_names_what_exists(record: tuple[str, str], views: tuple[str, str]) -> None:
    assert isinstance(getattr(import_module(f"jupyter_llmops.records.{record[0]}"), record[1]), type)
    for form in ("text", "html"):
        assert callable(view(views[0], f"{views[1]}_{form}"))
