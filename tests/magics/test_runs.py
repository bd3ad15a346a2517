"""%runs: finding, showing, comparing and rating what really was stamped."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from catalog_writer import START, a_run
from fake_encoder import FakeEncoder
from jupyter_llmops.audit.run_difference import compare
from jupyter_llmops.catalog.contents import RunText
from jupyter_llmops.display.registry import listing_text
from jupyter_llmops.display.run import run_view_html, run_view_text
from jupyter_llmops.display.run_diff import run_diff_html, run_diff_text
from jupyter_llmops.errors import CatalogError, LLMOpsError, UnknownNameError, UsageError
from jupyter_llmops.magics.completer import candidates
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.run_search import Difference, RunDiff, RunView
from jupyter_llmops.settings import load_settings
from jupyter_llmops.workspace import Workspace
from jupyter_llmops.workspace.moments import parse_cost, parse_moment

if TYPE_CHECKING:
    from magic_shell import Notebook


def share(shell: Notebook, texts: dict[str, str], *, session: str = "colleague", **changes: Any) -> list[str]:
    """Put runs of a colleague into the catalog."""
    runs = [
        a_run(session, seq, **({"user": "grace", "id": run_id} | changes)) for seq, run_id in enumerate(texts)
    ]
    shell.workspace.catalog.runs.append(runs)
    shell.workspace.catalog.contents.append(
        [
            RunText(run.id, run.session, run.seq, run.user, run.kind, "", texts[run.id], run.started_at)
            for run in runs
        ]
    )
    return list(texts)


TEXTS = {
    "a" * 16: "import pandas\nframe = pandas.read_csv('losses.csv')",
    "b" * 16: "refund policy: 30 days",
    "c" * 16: "translate the letter into French",
}


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace without a shell, with one cell that ran now."""
    home = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(home / "home"))
        patch.setenv("JUPYTER_CONFIG_DIR", str(home / "config"))
        workspace = Workspace(load_settings(), home / "catalog")
        workspace.settings.agent = "off"
        workspace.stamp("cell", started_at=datetime.now(UTC), seconds=0, fields={}, content={"source": "x"})
        yield workspace
        workspace.close()


def test_a_colleague_s_run_is_found_by_its_words_and_shown(notebook: Notebook) -> None:
    share(notebook, TEXTS)
    found = notebook.run("%runs find refund policy --user grace")
    assert found[0].id == "b" * 16
    assert "30 days" in found.why["b" * 16]
    assert "30 days" in notebook.shown(found)
    assert len(notebook.run("%runs find refund --user ada")) == 0
    assert "No run was found" in notebook.shown(notebook.run("%runs find refund --user ada"))
    shown = notebook.run("%runs show bbbb")
    assert shown.content == {"text": "refund policy: 30 days"}
    assert "30 days" in notebook.shown(shown)


def test_what_is_not_shared_yet_is_found_too(notebook: Notebook) -> None:
    share(notebook, {"a" * 16: "zebra crossing", "b" * 16: "zebra"})
    answer = notebook.run("%%prompt --into answer\nwhere does a zebra live")  # no agent runs
    own = {run.id for run in notebook.workspace._own_runs()}
    found = notebook.run("%runs find zebra live")
    assert found[0].id in own
    assert answer.run_id in {run.id for run in found[:2]}
    assert "zebra live" in found.why[answer.run_id]
    assert {run.id for run in notebook.run("%runs find zebra live --kind prompt --user grace")} == set()
    assert [run.id for run in notebook.run("%runs find zebra live --kind prompt")] == [answer.run_id]
    assert len(notebook.run("%runs find giraffe")) == 0
    notebook.workspace.forget(answer, yes=True)
    assert len(notebook.run("%runs find zebra live --kind prompt")) == 0


def test_where_the_catalog_takes_nothing_own_runs_are_listed_all_the_same(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.run("x = 1 / 1")
    notebook.run("%runs")
    notebook.run("y = 2")
    refused = CatalogError("The catalog is full.")

    def refuse() -> None:
        raise refused

    monkeypatch.setattr(notebook.workspace, "flush", refuse)
    with pytest.warns(UserWarning, match="not in the catalog yet"):
        found = notebook.run("%runs --kind cell --status ok")
    assert [run.execution_count for run in found] == [4, 3, 2, 1]
    with pytest.warns(UserWarning, match="not in the catalog yet"):
        assert [run.execution_count for run in notebook.run("%runs find 'y ='")] == [4]


@pytest.mark.parametrize(
    "line",
    [
        "%runs find",
        "%runs --since soon",
        "%runs --cost cheap",
        "%runs --rating fine",
        "%runs --kind meal",
        "%runs show -1 --user ada",
        "%runs diff -1",
        "%runs rate -1",
        "%runs rate -1 superb",
        "%runs -n 0",
        "%runs --why because",
        "%runs fnd words",
        "%runs show 'no such thing'",
    ],
)
def test_what_is_typed_wrongly_is_said_in_one_line(notebook: Notebook, line: str) -> None:
    error = notebook.fail(line)
    assert isinstance(error, UsageError)
    assert error.hint


def test_a_mistyped_id_names_the_nearest(notebook: Notebook) -> None:
    share(notebook, {"abcdef0123456789": "x"})
    near = notebook.run("%runs show abcedf01")
    assert [run.id for run in near] == ["abcdef0123456789"]
    assert "no run named 'abcedf01'" in notebook.shown(near)
    assert isinstance(notebook.fail("%runs diff -1 abcedf01"), UnknownNameError)
    assert notebook.run("%runs show ABCDEF01").run.id == "abcdef0123456789"
    assert "at least 3 digits" in str(notebook.fail("%runs show ab"))
    share(notebook, {"abcdef9999999999": "x"}, session="third")
    both = notebook.run("%runs show AbCdEf")
    assert {run.id for run in both} == {"abcdef0123456789", "abcdef9999999999"}
    assert "More than one" in notebook.shown(both)
    own = notebook.workspace._own_runs()[-1]
    share(notebook, {own.id[:8] + "0" * 8: "x"}, session="fourth")
    assert len(notebook.run(f"%runs show {own.id[:8]}")) == 2  # also where one of them is our own
    assert notebook.run(f"%runs show {own.id}").run.id == own.id


def test_a_count_that_this_session_lacks_is_that_of_the_one_before(notebook: Notebook) -> None:
    site, user = notebook.workspace.settings.site, notebook.workspace.user
    share(notebook, {"c" * 16: "x"}, execution_count=77, host=site, user=user)
    share(notebook, {"d" * 16: "x"}, execution_count=78, host=site, user="grace", session="other")
    notebook.run("x = 1")
    assert notebook.run("%runs show In[2]").note == ""
    view = notebook.run("%runs show In[77]")
    assert view.run.id == "c" * 16
    assert "This session has no In[77]" in notebook.shown(view)
    assert "This session has no In[77]" in notebook.shown(view, "text/html")
    assert isinstance(notebook.fail("%runs show In[78]"), UnknownNameError)
    assert isinstance(notebook.fail("%runs rate In[77] good"), UnknownNameError)


def test_what_this_session_lacks_says_which_cells_it_has(notebook: Notebook) -> None:
    notebook.run("x = 1")
    assert "This session has In[1] to In[2]" in str(notebook.fail("%runs show In[99]"))
    assert "This session has In[1] to In[3]" in str(notebook.fail("%runs show zzzz"))
    assert "This session has 4" in str(notebook.fail("%runs show -99"))


def test_a_cell_is_rated_by_what_its_model_said(notebook: Notebook) -> None:
    answer = notebook.run("%%prompt --into answer\nHi there")
    assert notebook.run("%runs rate -1 good").run.id == answer.run_id
    assert notebook.run("%runs rate In[2] bad").run.id == answer.run_id
    notebook.run("x = 1")
    assert notebook.run("%runs rate In[5] good").run.kind == "cell"
    cell = next(run for run in notebook.workspace._own_runs() if run.execution_count == 2)
    assert notebook.run(f"%runs rate {cell.id} good").run.id == cell.id
    notebook.run("ip = get_ipython()\nfor word in 'ab':\n    ip.run_cell_magic('prompt', '', word)")
    children = [run.id for run in notebook.workspace._own_runs() if run.kind == "prompt"][1:]
    error = notebook.fail("%runs rate In[8] good")
    assert "2 answers" in str(error)
    assert all(one in str(error) for one in children)
    notebook.workspace.settings.audit = False
    assert "trail, which is off" in str(notebook.fail("%runs rate answer good"))


@pytest.mark.parametrize(
    "call",
    [
        lambda ws: ws.find_runs(None),
        lambda ws: ws.find_runs("x", limit=True),
        lambda ws: ws.find_runs(kind="bogus"),
        lambda ws: ws.find_runs(kind=["cell"]),
        lambda ws: ws.find_runs(since="1d", until="2d"),
        lambda ws: ws.find_runs(cost="-1.."),
        lambda ws: ws.find_runs(cost=-1),
        lambda ws: ws.find_runs(since=5),
        lambda ws: ws.runs(kind="bogus"),
        lambda ws: ws.runs(kind=["cell"]),
        lambda ws: ws.run(None),
        lambda ws: ws.run(b"abc"),
        lambda ws: ws.run(0.5),
        lambda ws: ws.run("..\x1b[31m"),
        lambda ws: ws.rate(-1, "good", 5),
        lambda ws: ws.rate(-1, None),
        lambda ws: ws.diff_runs(None, -1),
        lambda ws: ws.prove(-1, 3),
        lambda ws: ws.export_runs(3),
        lambda ws: ws.export_runs(""),
        lambda ws: ws.export_runs("x.csv", None),
    ],
)
def test_what_can_not_be_meant_is_refused_in_one_sentence(offline: Workspace, call: Any) -> None:
    with pytest.raises(LLMOpsError) as caught:
        call(offline)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "  ", "\0", "\ud800", "'; --", "x" * 5000, "\u202e"])
def test_any_text_is_looked_for(offline: Workspace, text: str) -> None:
    offline.find_runs(text)
    offline.find_runs(text, user=text, notebook=text, model=text, session=text)


def test_a_status_that_no_run_can_have_is_refused_with_those_that_there_are(offline: Workspace) -> None:
    for wrong in ("weird", "interupted", "'; --", "9", "Key Error"):
        with pytest.raises(UsageError, match="no status") as caught:
            offline.find_runs(status=wrong)
        assert "ok, error, interrupted, and the name of an error" in caught.value.hint
    assert [run.kind for run in offline.find_runs(status="OK")] == ["cell"]
    for name in ("KeyError", "Error", "socket.gaierror", "Again", "错误"):
        assert len(offline.find_runs(status=name)) == 0


def test_a_moment_without_a_zone_is_of_this_machine(offline: Workspace) -> None:
    begun = datetime.now() - timedelta(hours=1)  # noqa: DTZ005 - that is what is tried
    assert [run.kind for run in offline.find_runs(since=begun)] == ["cell"]
    assert len(offline.find_runs(until=begun)) == 0


def test_planted_text_draws_over_nothing() -> None:
    wild = "a\x1b[2Jb\u202ec\nd\te\x9b"
    run = replace(a_run("s", 0), notebook=wild, user=wild, error_type=wild, model=wild, kind=wild)  # type: ignore[arg-type]
    view = RunView(
        run, content={wild: wild}, children=(run,), note=wild, why=wild, rating=wild, rated_by=wild
    )
    shown = [run_view_text(view), listing_text(Listing("run", [run], why={run.id: wild}, note=wild))]
    diff = RunDiff(run, run, (Difference("run", wild, wild, "x"),), (Difference("source", wild, wild, "x"),))
    for text in (*shown, run_diff_text(diff)):
        assert "\\x1b[2Jb\\u202ec" in text
        assert not set("\x1b\u202e\x9b") & set(text)
    assert len(shown[1].splitlines()) <= 5


def test_a_run_shows_its_texts_and_what_ran_in_it(notebook: Notebook) -> None:
    completion = notebook.run("%%prompt\nHi <b>there</b>")
    cell = notebook.run("%runs show In[2]")
    assert [child.id for child in cell.children] == [completion.run_id]
    assert "<b>" in run_view_text(cell)
    assert f"process {os.getpid()}" in run_view_text(cell)
    assert "process" in run_view_text(notebook.run(f"%runs show {completion.run_id}"))
    deadline = time.monotonic() + 30  # a thread says on what the cells run
    while not any(run.kind == "environment" for run in notebook.workspace._own_runs()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shown = run_view_html(notebook.run(f"%runs show {completion.run_id}"))
    assert "<b>there" not in shown
    assert "&lt;b&gt;there" in shown
    for word in ("response", "message.000.user", "environment"):
        assert word in shown


def test_a_run_of_a_newer_version_is_shown_and_says_so(notebook: Notebook) -> None:
    leaf = {"schema": "llmops.leaf/99", "surprise": {"deep": ["<script>"]}}
    notebook.workspace.catalog.runs.append([a_run("s", 0, id="d" * 16, leaf=leaf, read_only=True)])
    view = notebook.run("%runs show dddd")
    assert view.run.read_only
    text, markup = run_view_text(view), run_view_html(view)
    assert "newer version" in text
    assert "surprise.deep" in text
    assert "<script>" not in markup


def test_what_a_cell_asks_and_trains_is_of_its_notebook(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/team/zoo.ipynb")
    notebook.run("%%prompt\nHi there")
    notebook.run("%%training tiny\nx = 1")
    monkeypatch.setenv("JPY_SESSION_NAME", "/team/other.ipynb")
    notebook.run("%%prompt\nHi you")
    found = notebook.run("%runs --notebook zoo.ipynb")
    assert sorted(run.kind for run in found) == ["cell", "cell", "prompt", "training"]


def test_two_runs_are_compared_field_by_field_with_reasons(notebook: Notebook) -> None:
    notebook.run("%%prompt --max-new-tokens 8\nHi there")
    notebook.run("%%prompt --max-new-tokens 9\nHi you")
    diff = notebook.run("%runs diff In[2] In[3]")  # the cells
    assert {one.name for one in diff.texts} == {"source"}
    assert "The source differs." in diff.reasons
    assert "The parameters of the generation differ." in diff.reasons
    prompts = list(notebook.run("%runs --kind prompt"))[::-1]
    diff = notebook.workspace.diff_runs(*prompts)
    assert ("model", "parameters.max_new_tokens", "8", "9") in [
        (one.part, one.name, one.left, one.right) for one in diff.differences
    ]
    assert {one.part for one in diff.texts} == {"prompt", "answer"}
    text, markup = run_diff_text(diff), run_diff_html(diff)
    assert "- Hi there" in text
    assert "+ Hi you" in text
    assert "The prompt differs." in text
    assert "parameters.max_new_tokens" in markup
    same = notebook.workspace.diff_runs(prompts[0], prompts[0])
    assert same.same
    assert "Both are the same run." in run_diff_text(same)


@pytest.mark.parametrize(
    ("left", "right", "reasons"),
    [
        ({"tokenizer_digest": "a"}, {"tokenizer_digest": "b"}, ["The tokenizer differs."]),
        (
            {"adapter": "x", "adapter_digest": "a"},
            {"adapter": "x", "adapter_digest": "b"},
            ["The adapter differs."],
        ),
        (
            {"model": "m", "model_digest": "a"},
            {"model": "m", "model_digest": "b"},
            ["The model's files differ."],
        ),
        ({"seed": 1}, {"seed": 2}, ["The seed differs."]),
        ({"data": {"a": "sha256:1"}}, {"data": {"a": "sha256:2"}}, []),
        ({"data": {"a": "sha256:1"}}, {"data": {"b": "sha256:1"}}, ["Data of other names were trained on."]),
        ({"weights": {"w": "sha256:1"}}, {"weights": {"w": "sha256:2"}}, ["The resulting weights differ."]),
        ({"hyperparameters": {"lr": "1"}}, {"hyperparameters": {"lr": "2"}}, ["The hyperparameters differ."]),
    ],
)
def test_each_part_of_a_request_and_of_a_training_is_a_reason(
    left: dict[str, Any], right: dict[str, Any], reasons: list[str]
) -> None:
    runs = (a_run("s", seq, kind="training", leaf=leaf) for seq, leaf in enumerate((left, right)))
    assert list(compare(*runs, contents=({}, {})).reasons) == reasons


def test_two_trainings_say_what_came_out_the_same_and_nothing_of_prompts() -> None:
    leaf = {"seed": 7, "random": {"python": "sha256:1"}, "weights": {"w": "sha256:1"}}
    one, two = (a_run("s", seq, kind="training", leaf=leaf) for seq in (1, 2))
    diff = compare(one, two, contents=({"losses": "0 0.5", "x": "1"}, {"losses": "0 0.4", "x": "2"}))
    assert diff.reasons == ("The recorded losses differ.",)
    shown = run_diff_text(diff), run_diff_html(diff)
    for said in ("The seed is the same.", "same states of the random", "The resulting weights are the same."):
        assert all(said in text for text in shown)
    assert all("prompt" not in text for text in shown)
    skipped = replace(two, leaf=leaf | {"weights": {"w": "skipped: too large"}})
    assert not any(
        "weights" in said for said in compare(skipped, replace(skipped, id="f"), contents=({}, {})).equal
    )
    assert compare(one, one, contents=({}, {})).equal == ()


def test_a_rating_is_kept_with_its_history_in_catalog_and_trail(notebook: Notebook) -> None:
    completion = notebook.run("%%prompt --into answer\nHi there")
    view = notebook.run("%runs rate answer bad --why 'said -5 twice'")
    assert (view.rating, view.why) == ("bad", "said -5 twice")
    notebook.run("%runs rate answer bad --why 'said -5 twice'")  # the same again is one
    notebook.run("%runs rate answer good")
    workspace = notebook.workspace
    moves = workspace.catalog.changes.history("run", completion.run_id)
    assert [change.value["rating"] for change in moves] == ["bad", "good"]
    leaves = [run.leaf for run in notebook.run("%runs --kind rating")]
    assert [(leaf["of"], leaf["rating"]) for leaf in leaves] == [
        (completion.run_id, "good"),
        (completion.run_id, "bad"),
    ]
    assert [run.id for run in notebook.run("%runs --rating good")] == [completion.run_id]
    assert "good" in notebook.shown(workspace.show_run(completion), "text/html")


def test_a_secret_in_a_reason_reaches_no_catalog(notebook: Notebook) -> None:
    notebook.run("%%prompt --into answer\nHi there")
    secret = "ghp_" + "a1B2" * 9
    view = notebook.workspace.rate(notebook.shell.user_ns["answer"], "bad", f"it said {secret}")
    assert secret not in view.why
    assert secret not in str(notebook.workspace.catalog.changes.history("run", view.run.id))


@pytest.fixture
def encoder(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    made = FakeEncoder()
    monkeypatch.setattr(notebook.workspace, "encoder", lambda name="": made)
    return made


def test_meaning_is_embedded_once_and_a_bounded_number_a_time(
    notebook: Notebook, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_llmops.retrieval import run_meanings

    monkeypatch.setattr(run_meanings.meant_runs, "__kwdefaults__", {"most": 2})
    share(notebook, {f"{number:016x}": f"topic number {number}" for number in range(1, 6)})
    catalog = notebook.workspace.catalog

    def kept() -> int:
        return len(catalog.meanings.vectors("run", _space(encoder)).rows)

    left = []
    for _ in range(4):
        found = notebook.run("%runs find 'topic number 3' --meaning --user grace")
        left.append((kept(), "not embedded yet" in found.note))
    assert left == [(2, True), (4, True), (5, False), (5, False)]
    assert found[0].id == f"{3:016x}"
    assert "meaning" in found.why[f"{3:016x}"]
    assert catalog.meanings.remove("run", [f"{3:016x}", "unknown"]) == 1
    assert kept() == 4
    catalog.contents.delete([f"{2:016x}"])  # as forgetting does
    assert kept() == 3


def _space(encoder: FakeEncoder) -> str:
    from jupyter_llmops.inference.encoder import space_digest

    return space_digest(encoder.space)


def test_tab_knows_ids_and_values(notebook: Notebook) -> None:
    share(notebook, {"e" * 16: "x"}, notebook="team/losses.ipynb", error_type="KeyError", status="error")
    offered = {
        line: list(candidates(notebook.workspace, notebook.shell, "runs", line))
        for line in (
            "%runs ",
            "%runs show ",
            "%runs diff eeee ",
            "%runs rate eeee ",
            "%runs --user ",
            "%runs --notebook ",
            "%runs find x --status ",
            "%runs --since ",
            "%runs --kind ",
        )
    }
    assert {"find", "show", "diff", "rate"} <= set(offered["%runs "])
    assert "e" * 16 in offered["%runs show "]
    assert "e" * 16 in offered["%runs diff eeee "]
    assert offered["%runs rate eeee "] == ["good", "bad"]
    assert "grace" in offered["%runs --user "]
    assert offered["%runs --notebook "] == ["team/losses.ipynb"]
    assert {"ok", "KeyError"} <= set(offered["%runs find x --status "])
    assert "2h" in offered["%runs --since "]
    assert "environment" in offered["%runs --kind "]
    assert "e" * 16 in list(candidates(notebook.workspace, notebook.shell, "reproduce", "%reproduce "))


def test_help_explains_every_command(notebook: Notebook) -> None:
    said = notebook.shell.find_line_magic("runs").__doc__
    for word in ("find", "show", "diff", "rate", "--meaning", "--since", "--why"):
        assert word in said


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("2h", timedelta(hours=2)),
        ("30min", timedelta(minutes=30)),
        ("3d", timedelta(days=3)),
        ("1y ago", timedelta(days=365)),
        (timedelta(hours=5), timedelta(hours=5)),
    ],
)
def test_a_span_is_counted_back_from_now(typed: object, expected: timedelta) -> None:
    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert parse_moment(typed, now=now) == now - expected


def test_a_day_begins_and_ends_here() -> None:
    begin, end = parse_moment("2026-11-01"), parse_moment("2026-11-01", end=True)
    assert begin is not None
    assert end is not None
    assert begin.astimezone().date() == date(2026, 11, 1)
    assert timedelta(hours=22) < end - begin < timedelta(hours=26)
    assert parse_moment(None) is None
    for wrong in ("soon", "99999999999y", "2026-13-01", "-1d", "2026-11-01T25:00", 5.5):
        with pytest.raises(UsageError, match="no moment"):
            parse_moment(wrong)


def test_costs_are_ranges() -> None:
    assert parse_cost("0.01..0.5") == (10_000, 500_000)
    assert parse_cost("0.1..") == parse_cost(0.1) == (100_000, None)
    assert parse_cost("..0.5") == (None, 500_000)
    assert parse_cost((0, 1)) == (0, 1_000_000)
    for wrong in ("cheap", "..", "1..0", "1e99", "nan", "1..2..3"):
        with pytest.raises(UsageError, match="range of costs"):
            parse_cost(wrong)


def test_a_view_of_nothing_still_shows_itself() -> None:
    bare = replace(a_run("s", 0), leaf=None, started_at=START)
    view = RunView(bare, environment=a_run("s", 1, kind="environment", leaf={"python": "3.11", "n": np.e}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "python" in run_view_text(view)
        assert "python" in run_view_html(view)
