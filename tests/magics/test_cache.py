"""%cache wrong and right, %llmops invite and join, as users meet them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from jupyter_llmops.errors import TeamKeyError, UsageError
from jupyter_llmops.keys.team import team_key
from magic_shell import Notebook

ASK = "%%prompt\nWhat is the capital of Peru?"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_wrong_answer_is_never_served_again(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    notebook.run(ASK)
    assert notebook.run(ASK).source == "cache"
    said(capsys)
    notebook.run('%cache wrong --why "Lima is <b>right</b>"')
    assert "Marked as wrong for everyone" in said(capsys)
    for _ in range(2):
        assert notebook.run(ASK).source == "model", "the same answer, computed anew, is not stored"
    notebook.run("%cache why")
    assert "Lima is <b>right</b>" in said(capsys)
    notebook.run("%cache right")
    assert "served again" in said(capsys)
    assert notebook.run(ASK).source == "cache"


def test_the_answer_of_a_run_is_marked(notebook: Notebook) -> None:
    first = notebook.run(ASK)
    notebook.run("%%prompt\nAnother")
    notebook.run(f"%cache wrong {first.run_id}")
    assert notebook.run(ASK).source == "model"
    assert notebook.run("%%prompt\nAnother").source == "cache"
    notebook.run(f"%cache right {first.run_id}")
    assert notebook.run(ASK).source == "cache"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%cache wrong", "no stored answer"),
        ("%cache right", "No answer to it is marked"),
        ("%cache why x", "is too much"),
        ("%cache wrong a b", "is too much"),
        ("%llmops invite", "A name is missing"),
        ("%llmops join", "A name is missing"),
    ],
)
def test_bad_lines_are_one_sentence(notebook: Notebook, line: str, message: str) -> None:
    error = notebook.fail(line)
    assert isinstance(error, UsageError)
    assert message in str(error)


def test_invite_and_join(notebook: Notebook, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A colleague who joins gets what was cached, and nobody sees the key."""
    notebook.run(ASK)
    file = tmp_path / "for-ada"
    notebook.run(f"%llmops invite {file}")
    secret = file.read_text().split()[1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in said(capsys)

    mine = team_key(str(notebook.workspace.location))
    assert mine.path is not None
    mine.path.unlink()  # as on a colleague's machine
    notebook.workspace.cache.reopen_key()
    assert notebook.run(ASK).source == "model"
    stats = notebook.run("%cache")
    assert (stats.entries, stats.others) == (1, 1)
    assert "%llmops join FILE" in notebook.shown(stats)
    checkup = notebook.run("%llmops doctor")
    (check,) = [check for check in checkup.checks if check.part == "team key"]
    assert (check.status, "join" in check.fix) == ("warn", True)

    said(capsys)
    notebook.run(f"%llmops join {file}")
    answer = said(capsys)
    assert secret not in answer
    assert "former key is kept" in answer
    assert team_key(str(notebook.workspace.location)).id == mine.id
    assert notebook.run(ASK).source == "cache"
    assert secret not in "".join(path.read_text(errors="replace") for path in catalog_files(notebook))


def catalog_files(notebook: Notebook) -> list[Path]:
    files = [path for path in notebook.workspace.folder.rglob("*") if path.is_file()]
    assert files
    return files


def test_invite_never_writes_into_the_catalog_nor_over_a_file(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(ASK)
    inside = notebook.workspace.folder / "key"
    assert "would lie in the catalog" in str(notebook.fail(f"%llmops invite {inside}"))
    assert not inside.exists()
    taken = tmp_path / "taken"
    taken.write_text("mine")
    assert isinstance(notebook.fail(f"%llmops invite {taken}"), TeamKeyError)
    assert taken.read_text() == "mine"
    for file in (taken, tmp_path / "nothing"):
        assert isinstance(notebook.fail(f"%llmops join {file}"), TeamKeyError)
    assert notebook.run(ASK).source == "cache"


def test_the_doctor_warns_of_a_key_that_others_can_read(notebook: Notebook) -> None:
    notebook.run(ASK)
    key = team_key(str(notebook.workspace.location))
    assert key.path is not None
    key.path.chmod(0o644)
    (check,) = [check for check in notebook.run("%llmops doctor").checks if check.part == "team key"]
    assert (check.status, check.fix) == ("warn", f"!chmod 600 {key.path}")
