"""``--context`` and ``find`` as a user types them: real collections, the real encoder, an engine that answers at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyter_llmops.errors import TemplateError, UnknownNameError, UsageError
from jupyter_llmops.magics.completer import candidates
from magic_shell import Notebook

TEXTS = [
    "Helmets are never taken back, because nobody can see whether they have had a fall.",
    "The workshop opens at ten in the morning.",
    "A cargo bicycle costs thirty euros a day.",
]


@pytest.fixture
def desk(notebook: Notebook) -> Notebook:
    """Give a notebook two collections: the team's handbook and private notes."""
    notebook.shell.user_ns |= {"texts": TEXTS, "notes": ["Ann from accounting gave her helmet back."]}
    notebook.run("%collections add handbook --from texts")
    notebook.run("%collections add notes --from notes --private")
    return notebook


def leaf_of(notebook: Notebook) -> dict[str, object]:
    leaf = notebook.workspace.run("-1", kind="prompt").leaf
    assert leaf is not None
    return leaf


def test_a_cell_with_context(desk: Notebook) -> None:
    answer = desk.run("%%prompt --context handbook -k 1 -n 400\nCan I give my helmet back?")
    assert [passage.text for passage in answer.passages] == [TEXTS[0]]
    assert TEXTS[0] in answer.text  # the engine answers with what it read
    shown = desk.shown(answer)
    assert "Sources\n[1]" in shown
    assert "· handbook" in shown
    assert "<details" in desk.shown(answer, "text/html")
    leaf = leaf_of(desk)
    (fact,) = leaf["context"]["passages"]  # type: ignore[index]
    assert fact["digest"] == answer.passages[0].digest
    run = desk.workspace.run("-1", kind="prompt")
    content = desk.workspace.content(run)
    assert content is not None
    ((message, start, end),) = fact["places"]
    assert content[f"message.{message:03d}.user"][start:end] == TEXTS[0]
    again = desk.run("%%prompt --context handbook --k 1 -n 400\nCan I give my helmet back?")
    assert again.source == "cache"


def test_two_collections_the_template_says_where_and_the_query_is_a_template(desk: Notebook) -> None:
    desk.shell.user_ns["thing"] = "helmet"
    dry = desk.run(
        "%%prompt --context notes --context handbook -k 2 --context-query 'giving a {{ thing }} back' --dry-run\n"
        "system:\nUse only this:\n{{ context }}\nuser:\nWhat of the {{ thing }}?"
    )
    assert {passage.collection for passage in dry.passages} == {"notes", "handbook"}
    system, user = dry.request.messages
    assert "Ann from accounting" in system.content
    assert 'source="handbook: ' in system.content
    assert user.content == "What of the helmet?"
    assert "[2]" in desk.shown(dry)
    assert desk.engine.asked == 0


def test_the_teams_trail_tells_nothing_of_private_documents(desk: Notebook) -> None:
    answer = desk.run("%%prompt --context notes\nWho gave a helmet back?")
    (fact,) = leaf_of(desk)["context"]["passages"]  # type: ignore[index]
    assert fact["private"]
    assert "document" not in fact
    assert answer.passages[0].digest not in json.dumps(leaf_of(desk))


def test_a_saved_prompt_with_context(desk: Notebook) -> None:
    desk.run("%%prompt -s ask --context handbook -n 5\nUse this:\n{{ context }}\n{{ question }}?\n".replace(
        "{{ question }}", "{{ question | default('When') }}"
    ))  # fmt: skip
    answer = desk.run('%prompt ask question="When does it open" --context handbook -k 1 -n 400')
    assert [passage.text for passage in answer.passages] == [TEXTS[1]]
    with pytest.raises(TemplateError, match="--context COLLECTION"):
        desk.run("%prompt ask")


def test_the_python_twin(desk: Notebook) -> None:
    answer = desk.workspace.prompt("How much is a cargo bike?", context="handbook", k=1)
    assert [passage.text for passage in answer.passages] == [TEXTS[2]]
    with pytest.raises(UsageError, match="name of a collection"):
        desk.workspace.prompt("x", context=[3])  # type: ignore[list-item]


WRONG: list[tuple[str, type[Exception], str]] = [
    ("--context handbok", UnknownNameError, "handbook"),
    ("--context handbook -k 0", UsageError, "1 to 100"),
    ("-k 3", UsageError, "--context COLLECTION"),
    ("--context handbook --var context=mine", UsageError, "another name"),
    ("--context handbook --context-query '{{ nobody }}'", TemplateError, "'nobody'"),
]


def test_what_is_typed_wrongly_is_one_line(desk: Notebook) -> None:
    for line, error, part in WRONG:
        failure = desk.fail(f"%%prompt {line}\nWhat?")
        assert isinstance(failure, error), line
        assert part in str(failure)
    assert desk.engine.asked == 0
    assert set(candidates(desk.workspace, desk.shell, "prompt", "%%prompt --context ")) == {
        "handbook",
        "notes",
    }


def test_prompts_and_collections_are_found_by_meaning_and_private_vectors_stay_private(
    desk: Notebook, home: Path
) -> None:
    desk.workspace.save_prompt("traduire", "Traduis en français : {{ text }}")
    desk.workspace.save_prompt("mine", "Write the minutes of {{ transcript }}", private=True)
    desk.workspace.save_prompt("sql", "Write an SQL query that answers {{ question }}")
    found = desk.run("%prompts find translate into French")
    assert found[0].name == "traduire"
    assert "meaning 0." in desk.shown(found).splitlines()[2]
    nothing = desk.run("%prompts find xyzzy")
    assert desk.shown(nothing) == "No prompt was found. %prompts lists all."
    assert desk.run("%prompts find database")[0].name == "sql"
    assert desk.run("%prompts find notes of a meeting")[0].name == "mine"
    assert desk.run("%collections find handbok")[0].name == "handbook"
    kept = desk.workspace.catalog._connection.read("meanings", ["noun", "name"])
    assert kept is not None
    assert ("prompt", "sql") in zip(kept["noun"].to_pylist(), kept["name"].to_pylist(), strict=True)
    assert not {"mine", "notes"} & set(kept["name"].to_pylist())


def test_without_an_encoder_words_are_compared_and_it_is_said(desk: Notebook) -> None:
    desk.workspace.save_prompt("traduire", "Traduis en français : {{ text }}")
    desk.workspace.settings.encoder = "no-such-encoder"
    found = desk.workspace.find_names("prompt", {"traduire": "Traduis en français"}, "francais")
    assert found == ["traduire"]
    assert "Only words were compared" in found.note
    assert "no-such-encoder" in found.note
    assert found.why == {"traduire": "has francais"}
    listing = desk.run("%prompts find francais")
    for mime in ("text/plain", "text/html"):
        assert "Only words were compared" in desk.shown(listing, mime)
