"""What runs said goes to the catalog, after a second look for secrets."""

from __future__ import annotations

import json
import random
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.agent import sharing as sharing_module
from jupyter_llmops.agent.carried import CarriedMemory
from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.agent.own_journal import AgentJournal
from jupyter_llmops.agent.screening import RowScreen
from jupyter_llmops.agent.sharing import ContentSharing
from jupyter_llmops.audit.deletions import Deletions
from jupyter_llmops.audit.files import content_path
from jupyter_llmops.audit.forgetting import delete_contents
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_content, read_runs
from jupyter_llmops.audit.retention import prune
from jupyter_llmops.audit.sharing import note_sharing
from jupyter_llmops.audit.verification import verify
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.contents import Contents, RunText

# detect-secrets knows Cloudant's addresses and IBM's keys; the kernel's redactor is switched off here.
SECRET = "".join(random.Random(7).choices(string.hexdigits.lower()[:16], k=64))
LEAK = f"cloudant_password = '{SECRET}'"


class Team:
    """A journal without a redactor, a catalog, and the agent's sharing between them."""

    def __init__(self, folder: Path) -> None:
        self.audit = folder / "audit"
        self.catalog = Catalog(folder / "catalog", site="lab", user="ada")
        self.journal = self.begin()
        self.sharing = ContentSharing(self.audit, self.catalog)

    def begin(self, catalog: str = "") -> Journal:
        context = {"user": "ada", "host": "lab", "catalog": catalog or str(self.catalog.location)}
        return Journal(self.audit, context=context)

    def stamp(self, content: dict[str, str], kind: str = "cell", **fields: Any) -> str:
        return self.journal.stamp(kind, content=content, fields=fields)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def test_sources_prompts_and_answers_are_shared_once(team: Team) -> None:
    cell = team.stamp({"source": "\n# hello\nx = 1"})
    content = {
        "template": "T", "message.000.system": "be kind", "message.001.user": "Who?", "response": "Ada",
        "token_ids": "[1, 2]",
    }  # fmt: skip
    prompt = team.stamp(content, "prompt")
    team.stamp({})
    assert team.sharing.share() == 2
    found = team.catalog.contents.get(cell)
    assert found is not None
    assert (found.title, found.text, found.user, found.kind) == ("# hello", "\n# hello\nx = 1", "ada", "cell")
    found = team.catalog.contents.get(prompt)
    assert found is not None
    assert found.text == "Who?\n\nAda"
    assert team.sharing.share() == 0
    strange = team.stamp({"source": "\ud800 = 'half a character'"})
    assert team.sharing.share() == 1
    assert (team.catalog.contents.rows(strange)[0].title) == "? = 'half a character'"
    later = team.stamp({"source": "y = 2"})
    assert ContentSharing(team.audit, team.catalog).share() == 1, "an agent that starts anew goes on"
    assert team.sharing.share() == 0
    assert team.catalog.contents.get(later) is not None


def test_a_session_of_another_catalog_is_not_shared(team: Team, tmp_path: Path) -> None:
    team.begin(str(tmp_path / "other")).stamp("cell", content={"source": "x"})
    assert team.sharing.share() == 0
    assert not (tmp_path / "catalog").exists()


def test_sharing_can_be_switched_off_and_on(team: Team) -> None:
    first = team.stamp({"source": "one"})
    note_sharing(team.audit, team.journal.session, team.journal.stamped, shared=False)
    private = team.stamp({"source": "two"})
    note_sharing(team.audit, team.journal.session, team.journal.stamped, shared=True)
    last = team.stamp({"source": "three"})
    assert team.sharing.share() == 2
    assert team.catalog.contents.get(private) is None
    assert team.catalog.contents.get(first) is not None
    assert team.catalog.contents.get(last) is not None
    (team.audit / "sharing" / team.journal.session).write_text("nonsense")
    team.stamp({"source": "four"})
    assert team.sharing.share() == 0, "what can't be read forbids"


def test_what_detect_secrets_finds_is_scrubbed_here_and_not_shared(team: Team) -> None:
    run_id = team.stamp({"source": f"x = 1\n{LEAK}", "response": "fine", "token_ids": "[1]"})
    salt = json.loads(content_path(team.audit, team.journal.session, 1).read_bytes())["salt"]
    assert team.sharing.share() == 1
    shared = team.catalog.contents.get(run_id)
    assert shared is not None
    assert SECRET not in shared.text
    assert "x = 1" in shared.text
    run = list(read_runs(team.journal.path))[1]
    sidecar = content_path(team.audit, run.session, run.seq).read_text()
    assert SECRET not in sidecar
    assert json.loads(sidecar)["salt"] != salt
    assert (read_content(team.audit, run) or {})["response"] == "fine"
    team.sharing.close()
    leaves = [run.leaf or {} for path in list_journals(team.audit) for run in read_runs(path)]
    scrubbed = Deletions().read(leaves).scrubbed
    assert list(scrubbed) == [(run.session, run.seq)]
    assert scrubbed[run.session, run.seq].kinds
    assert [leaf["role"] for leaf in leaves if leaf["kind"] == "session"].count("agent") == 1
    assert not list(team.audit.glob(".scrub-*"))
    found = verify(team.audit)
    assert found.ok, found.problems
    assert any("as it held secrets" in note for note in found.notes)
    path = content_path(team.audit, run.session, run.seq)
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    assert [problem.seq for problem in verify(team.audit).problems] == [run.seq]


def test_a_scrub_whose_word_can_not_be_written_waits(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = team.stamp({"source": LEAK})
    monkeypatch.setattr(Journal, "flush", lambda _: False)
    assert team.sharing.share() == 0
    assert SECRET in content_path(team.audit, team.journal.session, 1).read_text()
    monkeypatch.undo()
    assert team.sharing.share() == 0, "not at every look"
    monkeypatch.setattr(sharing_module.time, "monotonic", lambda: 1e12)
    assert team.sharing.share() == 1
    assert SECRET not in content_path(team.audit, team.journal.session, 1).read_text()
    assert team.catalog.contents.get(run_id) is not None


def test_a_scrub_that_the_disk_refuses_is_said_once_and_any_word_of_it_holds(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.stamp({"source": LEAK})

    def refuse(*_: object) -> None:
        raise OSError

    def words(session: str) -> list[dict[str, Any]]:
        runs = read_runs(team.audit / "journal" / f"{session}.jsonl")
        return [run.leaf or {} for run in runs if run.kind == "scrub"]

    with monkeypatch.context() as patch:
        patch.setattr(sharing_module, "replace_content", refuse)
        patch.setattr(sharing_module, "_FIRST_PAUSE", 0.0)
        assert [team.sharing.share() for _ in range(4)] == [0, 0, 0, 0]
        (word,) = words(team.sharing._own.session)
    team.sharing.close()
    # The agent is stopped here; the next one says another word, and does it.
    again = ContentSharing(team.audit, team.catalog)
    assert again.share() == 1
    assert len(words(again._own.session)) == 1
    again.close()
    assert verify(team.audit).ok
    # Retention carries the first word on: it is read after the one that holds.
    carrier = AgentJournal(team.audit, team.catalog)
    carrier.stamp("scrub", {"runs": word["runs"], "said_at": word["started_at"]})
    carrier.close()
    found = verify(team.audit)
    assert found.ok, found.problems
    path = content_path(team.audit, team.journal.session, 1)
    path.write_text(path.read_text().replace("cloudant", "another!"))
    assert [problem.seq for problem in verify(team.audit).problems] == [1]


@pytest.mark.parametrize("after", ["an agent starts", "it is forgotten", "its session is pruned"])
def test_a_kill_in_a_scrub_leaves_no_copy(team: Team, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    team.stamp({"source": f"a private word\n{LEAK}"})

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            team.sharing.share()
    (left,) = team.audit.glob(".scrub-*")
    assert "a private word" in left.read_text()
    if after == "an agent starts":
        ContentSharing(team.audit, team.catalog).share()
    elif after == "it is forgotten":
        delete_contents(team.audit, list(read_runs(team.journal.path))[1:])
    else:
        prune(team.audit, [team.journal.session])
    assert not left.exists()


def test_what_is_forgotten_on_its_way_does_not_come_back(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = team.stamp({"source": "to forget"})
    append = team.catalog.contents.append

    def slow(texts: Any) -> int:
        content_path(team.audit, team.journal.session, 1).unlink()
        return append(texts)

    monkeypatch.setattr(team.catalog.contents, "append", slow)
    team.sharing.share()
    assert team.catalog.contents.get(run_id) is None


def test_what_is_forgotten_on_its_way_goes_after_a_kill_too(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent is killed between the append and the deletion: nothing but the disk and the catalog is left."""
    run_id, stays = team.stamp({"source": "to forget"}), team.stamp({"source": "to stay"})
    append = team.catalog.contents.append

    class Killed(BaseException):
        pass

    def killed(texts: Any) -> int:
        append(texts)
        content_path(team.audit, team.journal.session, 1).unlink()
        raise Killed

    monkeypatch.setattr(team.catalog.contents, "append", killed)
    with pytest.raises(Killed):
        team.sharing.share()
    monkeypatch.undo()
    assert team.catalog.contents.get(run_id) is not None
    ContentSharing(team.audit, team.catalog).share()
    assert team.catalog.contents.get(run_id) is None
    assert team.catalog.contents.get(stays) is not None


def test_what_the_catalog_refused_to_forget_is_forgotten_by_the_agent(team: Team) -> None:
    run_id = team.stamp({"source": "to forget"})
    team.sharing.share()
    place = {"of": run_id, "of_session": team.journal.session, "of_seq": 1}
    team.stamp({}, "forget", runs=[place], deleted=["content"], waits=["catalog"])
    ContentSharing(team.audit, team.catalog).share()
    assert team.catalog.contents.get(run_id) is None


def test_rows_that_were_planted_give_way_to_what_the_runs_said(team: Team) -> None:
    """Under a run's id before it is shared, beside it afterwards, and as of a run that never was."""
    first = team.stamp({"source": "mine"})
    private = team.stamp({})
    wrong = RunText(first, team.journal.session, 1, "ada", "cell", "theirs", "theirs")
    team.catalog.contents.append([wrong, replace(wrong, id=private, seq=2)])
    assert ContentSharing(team.audit, team.catalog).share() == 1
    assert [row.text for row in team.catalog.contents.rows(first)] == ["mine"]
    assert team.catalog.contents.rows(private) == []

    second = team.stamp({"source": "mine too"})
    high = replace(wrong, id="f" * 16, seq=3)
    team.catalog.contents.append([high])
    planted = team.catalog._connection.read("contents", None, f"id = '{first}'")
    team.catalog._connection.writing("contents", lambda handle: handle.add(planted))  # a second row of one id
    assert len(team.catalog.contents.rows(first)) == 2
    assert ContentSharing(team.audit, team.catalog).share() >= 1
    assert [row.text for row in team.catalog.contents.rows(first)] == ["mine"]
    assert [row.text for row in team.catalog.contents.rows(second)] == ["mine too"]
    assert team.catalog.contents.rows(high.id) == []


def test_a_row_under_a_colleagues_id_costs_the_colleague_nothing(team: Team) -> None:
    """Planted as of ada's session under the id of bob's run, and the other way round."""
    mine = team.stamp({"source": "mine"})
    team.sharing.share()
    true = RunText("b" * 16, "of-bob", 1, "bob", "cell", "bob's", "bob's")
    team.catalog.contents.append([true])
    planted = [
        replace(true, session=team.journal.session, text="planted"),
        replace(true, id=mine, text="planted"),
    ]
    rows = [{name: getattr(row, name) for name in RunText.__slots__} | {"site": "lab"} for row in planted]
    team.catalog._connection.writing("contents", lambda handle: handle.add(rows))
    assert len(team.catalog.contents.rows(true.id)) == 2
    ContentSharing(team.audit, team.catalog).share()
    assert team.catalog.contents.rows(true.id) == [true]
    assert [row.text for row in team.catalog.contents.rows(mine)] == ["mine"]


def test_a_row_that_was_replaced_is_put_right_when_an_agent_starts(team: Team) -> None:
    run_id = team.stamp({"source": "mine"})
    team.stamp({"source": "mine too"})
    team.sharing.share()
    row = team.catalog.contents.rows(run_id)[0]
    team.catalog.contents.delete([run_id])
    team.catalog.contents.append([replace(row, title="theirs", text="theirs")])
    ContentSharing(team.audit, team.catalog).share()
    assert team.catalog.contents.rows(run_id) == [row]


def test_an_agent_that_starts_anew_looks_at_nothing_twice(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.stamp({"source": "one"})
    team.sharing.share()
    looked: list[str] = []
    again = ContentSharing(team.audit, team.catalog)
    monkeypatch.setattr(again, "_clean", lambda content: looked.append("once") or (content, ()))
    again.share()
    assert looked == []
    team.stamp({"source": "two"})
    again.share()
    assert looked == ["once"]


def test_an_agent_that_starts_asks_once_for_all_sessions(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = []
    for number in range(4):
        journal = team.begin()
        changed.append(journal.stamp("cell", content={"source": f"session {number}"}))
        journal.close()
    asked: list[str] = []
    for of, name in ((CarriedMemory, "_values"), (CarriedMemory, "_write"), (Contents, "unlike")):
        real = getattr(of, name)

        def counted(*args: Any, real: Any = real, name: str = name) -> Any:
            asked.append(name)
            return real(*args)

        monkeypatch.setattr(of, name, counted)
    assert ContentSharing(team.audit, team.catalog).share() == 4
    assert asked.count("_write") == 2
    asked.clear()
    assert ContentSharing(team.audit, team.catalog).share() == 0
    assert sorted(asked) == ["_values", "_values", "unlike"]
    row = team.catalog.contents.rows(changed[2])[0]
    team.catalog.contents.delete([row.id])
    team.catalog.contents.append([replace(row, text="theirs")])
    assert ContentSharing(team.audit, team.catalog).share() == 1
    assert team.catalog.contents.rows(row.id) == [row]


def test_a_leaf_that_seems_to_hold_a_secret_is_withheld_with_the_reason(team: Team) -> None:
    team.stamp({}, notebook=f"notes AKIA{'Q3Z7' * 4}.ipynb", why=LEAK)
    team.stamp({}, notebook="notes.ipynb")
    runs = list(read_runs(team.journal.path))
    screen = RowScreen()
    held, free = screen.screen(runs[1]), screen.screen(runs[2])
    assert free is runs[2]
    assert held.leaf is not None
    assert "seems to hold a secret" in held.leaf["withheld"]
    assert SECRET not in str(held)
    assert "AKIA" not in str(held)
    assert (held.id, held.leaf_digest, held.seq) == (runs[1].id, runs[1].leaf_digest, 1)


def test_a_journal_that_can_not_be_read_keeps_no_other_waiting(team: Team) -> None:
    run_id = team.stamp({"source": "readable"})
    (team.audit / "journal" / "19990101T000000Z-00000000.jsonl").mkdir()
    assert team.sharing.share() == 1
    assert team.catalog.contents.get(run_id) is not None


def test_the_agent_shares(team: Team) -> None:
    run_id = team.stamp({"source": "by the agent"})
    team.stamp({}, why=LEAK)
    loop = AgentLoop(team.audit, team.catalog)
    loop.step()
    assert team.catalog.contents.get(run_id) is not None
    assert all(SECRET not in str(run) for run in team.catalog.runs.list(10, "all"))
    assert len(team.catalog.runs.list(10, "all")) == 3
