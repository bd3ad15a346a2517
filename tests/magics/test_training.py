"""``%%training``: what it records, shows and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.errors import UnknownNameError, UsageError
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
    assert cell.leaf["names"]["written"] == ["C", "losses", "model"]
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
        ("-w ww", "it assigns no variable 'ww' and there is none. Did you mean www?"),
        ("-w nothing", "A file or folder that it makes is named as a path: -w ./nothing"),
        ("--seed -4", "is not a seed"),
        ("--seed x", "invalid int value"),
        ("-d tabel", "'tabel' to learn from. Did you mean table?"),
        ("-p lr", "not of the form name=value. Type -p name=value, e.g. -p lr=0.001"),
        ("-p lr=1 -p lr=2", "lr is given twice"),
        ("-p class=1", "no cell can read a variable of that name"),
        ("-p lr = 1", "Unrecognized arguments: = 1. Usage: %%training"),
        ("--loss nothing", "it assigns no variable 'nothing' and there is none"),
    ],
)
def test_what_was_typed_wrongly_is_said(notebook: Notebook, line: str, said: str) -> None:
    notebook.run("table = 0")
    error = notebook.fail(f"%%training t {line}\nwww = 1")
    assert isinstance(error, UsageError)
    assert said in str(error)
    assert "www" not in notebook.shell.user_ns, "it ran for hours, and only then said so"
    assert len(notebook.workspace.runs(kind="training")) == 0


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


def test_what_the_source_does_not_show_is_looked_for_after_the_run(notebook: Notebook) -> None:
    record = notebook.run("%%training t -w there -w lost --loss bad\nexec('there = 1')\nbad = [1.0, 'x']")
    assert record.status == "ok"
    assert record.weights["there"].startswith("sha256:")
    assert record.weights["lost"].startswith("skipped: not found")
    assert record.losses == ((0, 1.0),)
    assert "bad end early: A loss is a number, not str" in record.notes[0]
    leaf = notebook.workspace.run(record.run_id).leaf
    assert (leaf["weights"], leaf["notes"]) == (record.weights, list(record.notes))
    assert "not found" in notebook.shown(record)


def test_a_path_that_the_cell_makes_and_losses_of_an_array(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("import numpy as np")
    file = tmp_path / "w.bin"
    record = notebook.run(
        f"%%training t -w {file} --loss l\nl = np.array([3.0, 1.0])\nopen({str(file)!r}, 'wb').write(b'w')"
    )
    assert record.weights[str(file)].startswith("sha256:")
    assert record.losses == ((0, 3.0), (1, 1.0))


def test_a_cell_awaits_as_any_cell_does(notebook: Notebook) -> None:
    record = notebook.run(
        "%%training t -w v --loss l\nimport asyncio\nasync def told():\n    yield 0.5\n"
        "await asyncio.sleep(0)\nl = [one async for one in told()]\nv: int = 1\ndef f(x: int): ..."
    )
    assert record.status == "ok"
    assert record.weights["v"].startswith("sha256:")
    assert record.losses == ((0, 0.5),)
    cell = notebook.workspace.run(notebook.workspace.run(record.run_id).leaf["parent"])
    assert cell.leaf["names"]["written"] == ["asyncio", "f", "l", "told", "v"]
    # Annotations are as in any cell, no texts.
    assert notebook.shell.user_ns["f"].__annotations__ == {"x": int}
    error = notebook.fail("%%training t\nawait asyncio.sleep(0)\nraise asyncio.CancelledError")
    assert type(error).__name__ == "CancelledError"
    assert notebook.workspace.run("-1", kind="training").status == "interrupted"  # Ctrl-C, in a kernel


def test_with_the_trail_off_it_says_that_nothing_is_kept(notebook: Notebook) -> None:
    notebook.run("%config LLMOps.audit = False")
    record = notebook.run("%%training t -w v\nv = 1")
    assert "as the audit trail is off" in notebook.shown(record)
    notebook.workspace.journal.path.unlink()
    with pytest.raises(UnknownNameError, match="The audit trail is off, so nothing is recorded: %config"):
        notebook.run("%audit prove")


def test_what_is_no_number_is_on_record_in_words(notebook: Notebook) -> None:
    record = notebook.run(
        "%%training t -w v -p lr=nan -p top=-inf --loss l\nv = (lr != lr, top < 0)\n"
        "l = [float('nan'), 2.0, float('inf'), 1.0]"
    )
    assert notebook.shell.user_ns["v"] == (True, True)
    assert record.hyperparameters == {"lr": "nan", "top": "-inf"}
    leaf = notebook.workspace.run(record.run_id).leaf
    assert leaf["loss"]["first"] == {"step": 0, "value": "nan"}
    assert leaf["loss"]["lowest"] == {"step": 3, "value": "1.0"}
    assert "nan → 1" in notebook.shown(record)
    assert notebook.workspace.verify().ok


@pytest.mark.parametrize(
    ("raised", "status"), [("1 / 0", "error"), ("raise KeyboardInterrupt", "interrupted")]
)
def test_what_a_cell_that_stops_had_made_is_on_record(
    notebook: Notebook, capsys: pytest.CaptureFixture[str], raised: str, status: str
) -> None:
    error = notebook.fail(f"%%training bad -w v -w later --loss l\nl = [2.0]\nv = 1\n{raised}\nlater = 1")
    run = notebook.workspace.run("-1", kind="training")
    assert (run.status, run.error_type) == (status, type(error).__name__)
    assert list(run.leaf["weights"]) == ["v"]
    assert run.leaf["loss"]["last"] == {"step": 0, "value": "2.0"}
    assert run.leaf["notes"] == ["v is recorded as the cell left it when it stopped"]
    shown = capsys.readouterr().out
    assert shown.count("Traceback") == 1
    assert "magics/training.py" not in shown
