"""``%collections`` and ``%search`` as a user types them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fake_encoder import FakeEncoder
from jupyter_llmops.errors import SpaceError, UnknownNameError, UsageError
from jupyter_llmops.magics.completer import candidates
from magic_shell import Notebook


@pytest.fixture
def encoders(notebook: Notebook) -> dict[str, FakeEncoder]:
    """Let the workspace open encoders that need no model."""
    known = {name: FakeEncoder(name, dimension=256, max_tokens=254) for name in ("all-minilm-l6-v2", "other")}
    notebook.workspace.encoder = lambda name="": known[name or "all-minilm-l6-v2"]  # type: ignore[method-assign,assignment,return-value]
    return known


@pytest.fixture
def tickets(notebook: Notebook, encoders: dict[str, FakeEncoder]) -> Notebook:
    notebook.shell.user_ns["df"] = pd.DataFrame(
        {
            "number": [1, 2, 3],
            "body": ["The app crashes at login", "Refund please", "<script>alert('login')</script>"],
            "year": [2023, 2024, 2025],
        }
    )
    notebook.run("%collections add tickets --from df --text body --id number")
    return notebook


def test_a_frame_is_added_searched_and_shown(tickets: Notebook) -> None:
    result = tickets.run('%search tickets "crashes at login" --k 2 --into found')
    assert [passage.document for passage in result.passages] == ["1", "3"]
    assert tickets.shell.user_ns["found"] is result
    text = tickets.shown(result)
    assert "The app crashes at login" in text
    assert "█" in text
    html = tickets.shown(result, "text/html")
    assert ">login</mark>" in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "year=2023" in html
    assert result.df["document"].tolist() == ["1", "3"]


def test_adding_again_says_what_was_there(tickets: Notebook) -> None:
    report = tickets.run("%collections add tickets --from df --text body --id number")
    assert (report.unchanged, report.embedded) == (3, 0)
    assert "3 unchanged" in tickets.shown(report)
    assert "3 unchanged" in tickets.shown(report, "text/html")


def test_the_list_and_the_card(tickets: Notebook) -> None:
    assert "No collections yet" not in tickets.shown(tickets.run("%collections"))
    tickets.run("%collections describe tickets what customers wrote --tag support")
    card = tickets.run("%collections show tickets")
    for mime in ("text/plain", "text/html"):
        shown = tickets.shown(card, mime)
        for word in ("what customers wrote", "support", "all-minilm-l6-v2", "year"):
            assert word in shown
    assert tickets.run("%collections").df["documents"].tolist() == [3]


def test_a_collection_is_found_by_what_is_said_of_it(tickets: Notebook) -> None:
    tickets.run("%collections describe tickets what customers complained about")
    assert [one.name for one in tickets.run("%collections find customers")] == ["tickets"]


def test_filters_are_typed_behind_where(tickets: Notebook) -> None:
    result = tickets.run('%search tickets login --where "year>=2024" --how text')
    assert [passage.document for passage in result.passages] == ["3"]
    error = tickets.fail('%search tickets login --where "yaer>=2024"')
    assert isinstance(error, UsageError)
    assert "Did you mean 'year'" in str(error)
    assert "another type" in str(tickets.fail('%search tickets login --where "year=1 OR 1=1"'))


def test_retired_is_hidden_and_still_searched(tickets: Notebook) -> None:
    assert "%collections restore tickets" in tickets.run("%collections retire tickets --why old")
    assert list(tickets.run("%collections")) == []
    assert [one.retired for one in tickets.run("%collections --all")] == [True]
    assert tickets.run("%search tickets refund").passages
    tickets.run("%collections restore tickets")
    assert len(tickets.run("%collections")) == 1
    assert "retired" in tickets.shown(tickets.run("%collections history tickets"))


def test_another_encoder_is_refused_with_the_line_that_migrates(tickets: Notebook) -> None:
    for line in (
        "%search tickets refund --encoder other",
        "%collections add tickets --from df --encoder other --text body",
    ):
        error = tickets.fail(line)
        assert isinstance(error, SpaceError)
        assert "%collections migrate tickets other" in str(error)
    tickets.run("%collections migrate tickets other")
    assert tickets.run("%collections show tickets").space.encoder == "other"
    assert tickets.run("%search tickets refund").passages[0].document == "2"
    assert "other" in tickets.shown(tickets.run("%collections history tickets"))


def test_private_is_yours_until_it_is_published(notebook: Notebook, encoders: dict[str, FakeEncoder]) -> None:
    notebook.shell.user_ns["texts"] = [
        "my own thought",
        "token = sk-proj-Aa1Bb2Cc3Dd4Ee5Ff6Gg7Hh8Ii9Jj0Kk1Ll2Mm3Nn4",
    ]
    notebook.run("%collections add notes --from texts --private")
    assert notebook.workspace.catalog.collections.names() == []
    assert "(yours)" in notebook.shown(notebook.run("%collections"))
    assert len(notebook.run("%search notes thought").passages) == 2
    report = notebook.run("%collections publish notes")
    assert (report.added, len(report.skipped)) == (1, 1)
    assert "secret" in notebook.shown(report)
    assert notebook.workspace.catalog.collections.get("notes").items == 1
    assert isinstance(notebook.fail("%collections publish nothing"), UnknownNameError)
    shared = notebook.run("%collections add team --from texts")
    assert next(why for _, why in shared.skipped).startswith("it holds what looks like a secret")


def test_files_are_added_by_their_path(
    notebook: Notebook, encoders: dict[str, FakeEncoder], tmp_path: Path
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a b.md").write_text("# Passwords\n\nReset them.", "utf-8")
    (tmp_path / "docs" / "bad.txt").write_bytes(b"\xff\xff")
    report = notebook.run(f"%collections add docs --from '{tmp_path / 'docs'}' --max-tokens 50 --overlap 5")
    assert report.added == 1
    assert "left out bad.txt: it is not text in UTF-8" in notebook.shown(report)
    chunking = notebook.workspace.collection("docs").chunking
    assert (chunking.max_tokens, chunking.overlap_tokens) == (50, 5)
    assert notebook.run("%search docs passwords").passages[0].document == "a b.md"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%collections ad x", "Did you mean add"),
        ("%collections add", "A name is missing"),
        ("%collections add x", "What should be added"),
        ("%collections add x --from nowhere", "no file, folder or variable 'nowhere'"),
        ("%collections add x --from df --text nope", "no column 'nope'"),
        ("%collections add add --from df --text body", "sub-command"),
        ("%collections add Tickets --from df --text body", "by case only"),
        ("%collections add tickets --from df --text body --max-tokens 50", "stays so"),
        ("%collections add new --from df --text body --max-tokens 5000", "--max-tokens 200"),
        ("%collections add new --from df --text body --overlap -3", "--overlap"),
        ("%collections show ticket", "Did you mean tickets"),
        ("%collections migrate tickets", "Type %collections migrate NAME ENCODER"),
        ("%collections describe tickets", "A description is missing"),
        ("%search tickets", "A search needs a collection and what you look for"),
        ('%search tickets " "', "query is empty"),
        ("%search tickets x --k 0", "1 to 1,000"),
        ("%search tickets x --k many", "invalid int value"),
        ("%search tickets x --how best", "invalid choice"),
        ("%search tickets x --into 3x", "not the name of a variable"),
        ("%search nothing x", "no collection named 'nothing'"),
    ],
)
def test_a_wrong_line_is_answered_in_one_sentence(tickets: Notebook, line: str, says: str) -> None:
    assert says in str(tickets.fail(line))
    assert [one.name for one in tickets.run("%collections")] == ["tickets"]


def test_tab_completes_commands_names_variables_and_encoders(tickets: Notebook) -> None:
    def offered(line: str) -> set[str]:
        magic = line.split(maxsplit=1)[0].lstrip("%")
        return set(candidates(tickets.workspace, tickets.shell, magic, line))

    assert {"add", "migrate", "publish"} <= offered("%collections ")
    assert offered("%search ") == offered("%collections show ") == {"tickets"}
    assert "df" in offered("%collections add x --from ")
    assert offered("%collections migrate tickets ") == {"all-minilm-l6-v2"}
    assert offered("%search tickets x --how ") == {"hybrid", "text", "vector"}
    assert "--where" in offered("%search tickets x ")
    tickets.run("%collections retire tickets")
    assert offered("%collections restore ") == {"tickets"}


def test_the_twins_in_python(tickets: Notebook) -> None:
    ws: Any = tickets.workspace
    assert ws.collections()[0].name == "tickets"
    report = ws.add_to_collection("tickets", [{"id": "9", "text": "Late parcel", "year": 2026}])
    assert report.added == 1
    assert ws.search("tickets", "parcel", k=1, filters={"year": 2026}).passages[0].document == "9"


def test_the_real_encoder_finds_by_meaning(notebook: Notebook) -> None:
    notebook.shell.user_ns["texts"] = [
        "Cats purr when they are content.",
        "Shares fell on Monday.",
        "Bring an umbrella.",
    ]
    notebook.run("%collections add small --from texts")
    result = notebook.run('%search small "what noise does a feline make" --k 1 --how vector')
    assert result.passages[0].text == "Cats purr when they are content."


def test_what_is_published_is_the_teams_from_then_on(
    notebook: Notebook, encoders: dict[str, FakeEncoder]
) -> None:
    notebook.shell.user_ns["texts"] = ["a thought of mine"]
    notebook.run("%collections add notes --from texts --private")
    notebook.run("%collections publish notes")
    assert [one.private for one in notebook.run("%collections")] == [False]
    notebook.shell.user_ns["texts"] = ["a thought for all"]
    assert not notebook.run("%collections add notes --from texts").private
    assert notebook.workspace.catalog.collections.get("notes").items == 2
    assert len(notebook.run("%search notes thought").passages) == 2
    notebook.shell.user_ns["texts"] = ["a doubt of mine"]
    assert notebook.run("%collections add notes --from texts --private").private
    found = notebook.run("%search notes doubt").passages
    assert "a doubt of mine" in [passage.text for passage in found]
    assert notebook.workspace.catalog.collections.get("notes").items == 2
