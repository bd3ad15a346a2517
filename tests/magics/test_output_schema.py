"""--schema in a shell: the answer as data, and an answer that does not follow it; FastEngine says the prompt again.

Its real counterpart, answers that follow by construction, is tests/unit/test_inference_constrained.py.
"""

from __future__ import annotations

import pytest

from jupyter_llmops.errors import OutputSchemaError
from magic_shell import Notebook

SCHEMA = 'shape = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'


@pytest.fixture
def shaped(notebook: Notebook) -> Notebook:
    notebook.run(SCHEMA)
    return notebook


def test_the_answer_is_data_computed_and_reused(shaped: Notebook):
    first = shaped.run('%%prompt --schema shape\n{"n": 3}')
    second = shaped.run('%%prompt --schema shape\n{"n": 3}')
    assert first.data == second.data == {"n": 3}
    assert second.source == "cache"


def test_an_answer_that_breaks_the_schema_is_one_sentence_and_in_the_record(shaped: Notebook):
    error = shaped.fail('%%prompt --schema shape\n{"n": "three"}')
    assert isinstance(error, OutputSchemaError)
    assert "$.n" in str(error)
    run = shaped.workspace.run(-1, kind="prompt")
    assert (run.status, run.error_type) == ("error", "OutputSchemaError")
    assert shaped.workspace.content(run)["response"] == '{"n": "three"}'


def test_in_a_map_it_concerns_its_row(shaped: Notebook):
    rows = ["1", '"x"', "1", '"x"']
    shaped.run(f"numbers = {rows!r}")
    result = shaped.run('%%prompt --schema shape --map numbers --into out\n{"n": {{ row }}}')
    assert result.values == [{"n": 1}, None, {"n": 1}, None]
    assert [row.failure.error_type if row.failure else "" for row in result] == ["", "OutputSchemaError"] * 2
    assert (result.computed, result.repeated, result.failed) == (1, 1, 2)


def test_a_schema_that_is_no_variable_names_the_nearest(shaped: Notebook):
    assert "Did you mean shape?" in str(shaped.fail("%%prompt --schema shap\nx"))
    assert "needs the format json" in str(shaped.fail("%%prompt --schema shape --format text\nx"))
