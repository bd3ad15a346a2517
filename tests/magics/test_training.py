"""``%%training``: what it records, shows and refuses."""

from __future__ import annotations

import pytest

from jupyter_llmops.errors import UsageError
from magic_shell import Notebook


def test_a_cell_that_trains_is_on_record_and_shows_itself(notebook: Notebook) -> None:
    notebook.run(
        "import numpy as np\nfrom sklearn.linear_model import LogisticRegression\nx = np.arange(8.0).reshape(4, 2)"
    )
    record = notebook.run(
        "%%training news -d x -w model --seed 7 -p C=0.5 --loss losses\n"
        "losses = [0.9, 0.4, 0.2]\nmodel = LogisticRegression(C=C).fit(x, [0, 1, 0, 1])"
    )
    assert record.hyperparameters == {"C": 0.5}
    assert record.weights["model"].startswith("sha256:")
    leaf = notebook.workspace.run(record.run_id).leaf
    assert leaf["weights"] == record.weights
    cell = notebook.workspace.run(leaf["parent"])
    assert cell.kind == "cell"
    assert cell.leaf["names"]["written"] == ["losses", "model"]
    assert "model" in cell.leaf["values"]
    text, page = notebook.shown(record), notebook.shown(record, "text/html")
    assert "training news" in text
    assert record.weights["model"][:23] in text
    assert "0.9 → 0.2" in text
    assert "<svg" in page
    shown = notebook.shown(notebook.run(f"%runs show {record.run_id}"))
    assert record.weights["model"] in shown


def test_ranks_are_found_by_their_group(notebook: Notebook) -> None:
    record = notebook.run("%%training one -w v\nv = 1")
    other = notebook.workspace.journal.stamp(
        "training", parent=record.run_id, fields={"rank": 1, "group": record.run_id}
    )
    shown = notebook.shown(notebook.run(f"%runs show {record.run_id}"))
    assert other in shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-d nothing", "no variable, file or folder 'nothing' to learn from"),
        ("-w nothing", "The cell made no variable, file or folder 'nothing'"),
        ("--seed -4", "is not a seed"),
        ("--seed x", "invalid int value"),
        ("-p lr", "not of the form name=value"),
        ("--loss nothing", "The cell made no list 'nothing'"),
    ],
)
def test_what_was_typed_wrongly_is_said(notebook: Notebook, line: str, said: str) -> None:
    error = notebook.fail(f"%%training t {line}\nv = 1")
    assert isinstance(error, UsageError)
    assert said in str(error)


def test_a_cell_with_a_syntax_error_records_nothing(notebook: Notebook) -> None:
    before = notebook.workspace.journal.stamped
    assert "syntax error" in str(notebook.fail("%%training\n1 +"))
    leaves = notebook.workspace.runs(limit=50, kind="training")
    assert len(leaves) == 0
    assert notebook.workspace.journal.stamped > before  # the cell itself


def test_an_error_of_the_cell_is_on_record_and_raised(notebook: Notebook) -> None:
    assert isinstance(notebook.fail("%%training bad\n1 / 0"), ZeroDivisionError)
    run = notebook.workspace.run("-1", kind="training")
    assert (run.status, run.error_type) == ("error", "ZeroDivisionError")
