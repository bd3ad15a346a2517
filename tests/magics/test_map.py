"""%%prompt --map: one prompt for each row."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from fast_engine import FastEngine
from jupyter_llmops.errors import (
    BackendError,
    BudgetError,
    ContextError,
    InferenceError,
    Interrupted,
    LLMOpsError,
    TemplateError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.prompting import map as mapping
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.engine import OnDone
    from jupyter_llmops.records.map import MapResult
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.run import Run
    from magic_shell import Notebook


class RowEngine(FastEngine):
    """Fails for chosen texts, and gets Ctrl-C before its nth answer."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, list[LLMOpsError]] = {}
        self.stop_before: int | None = None
        self.texts: list[str] = []
        self.silent_for: set[str] = set()
        self.calls: list[int] = []

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        self.calls.append(len(requests))
        for position, request in enumerate(requests):
            if self.stop_before is not None and self.stop_before == len(self.texts):
                raise KeyboardInterrupt
            text = request.messages[-1].content
            if text in self.silent_for:
                continue
            self.texts.append(text)
            errors = self.failing.get(text)
            on_done(position, errors.pop() if errors else self.generate(request, model))


@pytest.fixture
def rows(notebook: Notebook) -> Iterator[RowEngine]:
    """A notebook with `df`, whose engine can fail by row."""
    engine = RowEngine()
    notebook.workspace.__dict__["engine"] = engine
    notebook.shell.user_ns["df"] = pd.DataFrame(
        {"review": ["good book", "bad film", "good book", "fine song"]}, index=[7, 7, 8, 9]
    )
    return engine


@pytest.fixture
def frame(rows: RowEngine, notebook: Notebook) -> pd.DataFrame:
    return notebook.shell.user_ns["df"]


MAP = "%%prompt --map df --column answer\nSay {{ review }}"


def prompts_of(notebook: Notebook, result: MapResult) -> list[Run]:
    """Return the rows' runs in the order of the rows."""
    runs = [run for run in notebook.workspace.runs(1000, kind="prompt") if run.parent == result.run_id]
    return sorted(runs, key=lambda run: run.leaf["row"])


def test_a_column_is_added_in_order_and_equal_rows_are_computed_once(
    notebook: Notebook, rows: RowEngine, frame: pd.DataFrame
) -> None:
    result = notebook.run(MAP)
    assert list(frame["answer"]) == ["Say good book", "Say bad film", "Say good book", "Say fine song"]
    assert result.values == list(frame["answer"])
    assert (result.computed, result.repeated, rows.asked) == (3, 1, 3)
    assert [row.same_as for row in result] == [None, None, 0, None]
    assert result.df["same_as"].dtype == "Int64"
    again = notebook.run(MAP)
    assert (again.reused, again.repeated, again.computed, rows.asked) == (3, 1, 0, 3)
    shown = notebook.shown(again)
    assert "3 from the cache" in shown
    assert "saved" in shown


@pytest.mark.parametrize("options", ["", "--no-cache"])
def test_the_cache_counts_what_a_map_says_that_it_spared(
    notebook: Notebook, rows: RowEngine, options: str
) -> None:
    notebook.workspace.settings.price_per_hour = {"cpu": 3600.0}
    notebook.shell.user_ns["many"] = ["a", "b", "a", "a", "c", "b"]
    counted = [notebook.workspace.cache_stats()]
    for _ in range(2):
        result = notebook.run(f"%%prompt --map many --into out {options}\nSay {{{{ row }}}}")
        counted.append(notebook.workspace.cache_stats())
        before, after = counted[-2:]
        assert after.hits - before.hits == result.reused + result.repeated
        assert after.seconds_saved - before.seconds_saved == pytest.approx(result.seconds_saved, abs=0.1)
        money = sum(cost.amount for cost in after.saved) - sum(cost.amount for cost in before.saved)
        assert money == pytest.approx(result.saved.amount)


def test_without_a_column_the_data_frame_stays_as_it_is(
    notebook: Notebook, rows: RowEngine, frame: pd.DataFrame
) -> None:
    before = frame.copy()
    result = notebook.run("%%prompt --map df --into answers\nSay {{ review }}")
    assert notebook.shell.user_ns["answers"] is result
    pd.testing.assert_frame_equal(frame, before)
    assert list(result.df["value"]) == result.values
    assert result[1].value == "Say bad film"


def test_each_row_is_stamped_once_within_the_map_and_the_map_within_the_cell(
    notebook: Notebook, rows: RowEngine
) -> None:
    rows.failing = {"Say bad film": [InferenceError("It broke.")]}
    result = notebook.run(MAP)
    runs = prompts_of(notebook, result)
    assert [run.leaf["row"] for run in runs] == [0, 1, 2, 3]
    assert [run.status for run in runs] == ["ok", "error", "ok", "ok"]
    assert runs[2].leaf["same_as"] == runs[0].id
    assert [row.completion.run_id for row in result if row.completion] == [runs[i].id for i in (0, 2, 3)]
    the_map = notebook.workspace.run(result.run_id)
    cell = next(run for run in notebook.workspace.runs(100, kind="cell") if run.id == the_map.parent)
    assert (the_map.kind, the_map.leaf["rows"], the_map.leaf["failed"]) == ("map", 4, 1)
    assert "--map df" in notebook.workspace.content(cell)["source"]
    assert notebook.workspace.run(f"In[{cell.execution_count}]", kind="prompt") in runs
    assert notebook.workspace.verify().ok


def test_failures_are_values_of_their_rows(notebook: Notebook, rows: RowEngine, frame: pd.DataFrame) -> None:
    rows.failing = {"Say good book": [InferenceError("It broke.", "Try again.")]}
    result = notebook.run(MAP)
    assert result.failed == 2, "the row that asks the same has the same failure"
    assert (result[0].failure.error_type, result[0].failure.message) == ("InferenceError", "It broke.")
    assert list(frame["answer"].isna()) == [True, False, True, False]
    assert "2 × InferenceError: It broke. Try again." in notebook.shown(result)
    again = notebook.run(MAP)
    assert (again.failed, again.reused, again.computed) == (0, 2, 1)


def test_retries(notebook: Notebook, rows: RowEngine) -> None:
    rows.failing = {
        "Say good book": [InferenceError("It broke."), InferenceError("It broke.")],
        "Say bad film": [ContextError("Too long."), ContextError("Too long.")],
    }
    result = notebook.run("%%prompt --map df --retry 2\nSay {{ review }}")
    assert result[0].value == result[2].value == "Say good book"
    assert result[1].failure.attempts == 1, "what can't get better was tried again"
    assert rows.texts.count("Say good book") == 3
    assert rows.texts.count("Say fine song") == 1


def test_a_backend_that_forgets_a_row_leaves_a_failure(notebook: Notebook, rows: RowEngine) -> None:
    rows.silent_for = {"Say bad film"}
    result = notebook.run("%%prompt --map df --retry 1\nSay {{ review }}")
    assert (result[1].failure.error_type, result[1].failure.attempts) == ("BackendError", 2)
    assert result.failed == 1


@pytest.mark.parametrize("options", ["", "--no-cache", "-t 0.9", "-t 0.9 --no-cache"])
def test_after_ctrl_c_the_same_cell_goes_on(notebook: Notebook, rows: RowEngine, options: str) -> None:
    frame = notebook.shell.user_ns["df"] = pd.DataFrame({"review": ["a", "b", "a", "c", "d"]})
    cell = f"%%prompt --map df --column answer --into got {options}\nSay {{{{ review }}}}"
    fresh = "-t" in options
    rows.stop_before = 2
    error = notebook.shell.run_cell(cell).error_in_exec
    assert isinstance(error, Interrupted)
    assert "\n" not in str(error)
    assert "Run the same cell again" in str(error)
    first = notebook.shell.user_ns["got"]
    assert first == error.completion
    done = [row.index for row in first if row.completion]
    assert done == ([0, 1] if fresh else [0, 1, 2])
    assert list(frame["answer"].notna()) == [index in done for index in range(5)]
    rows.stop_before = None
    second = notebook.run(cell)
    assert second.resumed == len(done)
    assert second.values == ["Say a", "Say b", "Say a", "Say c", "Say d"]
    assert list(frame["answer"]) == second.values
    assert len(rows.texts) == (5 if fresh else 4), "a row was computed twice"
    stamped = [
        run.leaf["row"]
        for run in notebook.workspace.runs(100, kind="prompt")
        if run.parent in (first.run_id, second.run_id)
    ]
    assert sorted(stamped) == [0, 1, 2, 3, 4]
    assert notebook.workspace.run(first.run_id).status == "interrupted"
    assert notebook.workspace.run(second.run_id).leaf["continues"] == first.run_id
    third = notebook.run(cell)
    assert third.resumed == 0, "a map that came to its end begins anew"


def test_a_changed_row_is_not_taken_from_the_stopped_map(notebook: Notebook, rows: RowEngine) -> None:
    frame = notebook.shell.user_ns["df"]
    rows.stop_before = 2
    notebook.shell.run_cell("%%prompt --map df --no-cache\nSay {{ review }}")
    rows.stop_before = None
    frame.iloc[0, 0] = "new text"
    result = notebook.run("%%prompt --map df --no-cache\nSay {{ review }}")
    assert result.values == ["Say new text", "Say bad film", "Say good book", "Say fine song"]


def test_ctrl_c_while_a_row_is_kept_loses_nothing(
    notebook: Notebook, rows: RowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real SIGINT in the middle of storing and stamping takes effect after it."""
    keep = notebook.workspace.cache.keep

    def interrupted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return keep(*arguments, **options)

    monkeypatch.setattr(notebook.workspace.cache, "keep", interrupted)
    error = notebook.shell.run_cell(MAP).error_in_exec
    assert isinstance(error, Interrupted)
    result = error.completion
    assert [row.index for row in result if row.completion] == [0, 2]
    assert [run.leaf["row"] for run in prompts_of(notebook, result)] == [0, 2]


def test_no_cache_neither_reads_nor_writes(notebook: Notebook, rows: RowEngine) -> None:
    for options in ("--no-cache", "--no-cache", ""):
        assert notebook.run(f"%%prompt --map df {options}\nSay {{{{ review }}}}").computed == 3
    assert notebook.run("%%prompt --map df --no-cache\nSay {{ review }}").computed == 3
    assert notebook.run("%%prompt --map df\nSay {{ review }}").reused == 3


def test_samples_without_a_seed_are_kept_where_reuse_is_wanted(notebook: Notebook, rows: RowEngine) -> None:
    line = "%%prompt --map df -t 0.7 --reuse\nSay {{ review }}"
    assert notebook.run(line).computed == 3
    assert (notebook.run(line).reused, rows.asked) == (3, 3)


def test_a_backend_that_tells_a_row_twice_is_heard_once(
    notebook: Notebook, rows: RowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        for position in (0, 0, 2, 1, 2):
            on_done(position, Generation(f"answer {position}", (1,), 1, 0.1, "stop"))

    monkeypatch.setattr(rows, "generate_many", twice)
    result = notebook.run("%%prompt --map df\nSay {{ review }}")
    assert result.values == ["answer 0", "answer 1", "answer 0", "answer 2"]
    assert [run.leaf["row"] for run in prompts_of(notebook, result)] == [0, 1, 2, 3]


def test_samples_without_a_seed_are_drawn_for_every_row(notebook: Notebook, rows: RowEngine) -> None:
    assert notebook.run("%%prompt --map df -t 1\nSay {{ review }}").computed == 4
    assert notebook.run("%%prompt --map df -t 1\nSay {{ review }}").computed == 4
    assert notebook.run("%%prompt --map df -t 1 --seed 3\nSay {{ review }}").computed == 3


def test_more_rows_than_one_window(
    notebook: Notebook, rows: RowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "WINDOW", 3)
    notebook.shell.user_ns["many"] = ["a", "b", "a", "c", "a", "bad", "d", "bad"]
    for options in ("", "--no-cache"):
        rows.texts.clear()
        rows.failing = {"Say bad": [InferenceError("It broke.")] * 2}
        result = notebook.run(f"%%prompt --map many {options}\nSay {{{{ row }}}}")
        assert [row.value for row in result[:5]] == ["Say a", "Say b", "Say a", "Say c", "Say a"]
        assert (result.failed, result.repeated) == (2, 2)
        assert result[7].same_as == 5
        assert sorted(rows.texts) == ["Say a", "Say b", "Say bad", "Say c", "Say d"]
        assert len(prompts_of(notebook, result)) == 8
        notebook.workspace.cache.clear()


@dataclass
class Review:
    text: str


def test_any_iterable(notebook: Notebook, rows: RowEngine) -> None:
    import pyarrow as pa

    notebook.shell.user_ns |= {
        "texts": (text for text in ("a", "b")),
        "dicts": [{"text": "a"}, {"text": "b"}],
        "records": [Review("a"), Review("b")],
        "column": pd.Series(["a", "b"], name="text"),
        "arrow": pa.table({"text": ["a", "b"]}),
    }
    for name in ("texts", "column"):
        assert notebook.run(f"%%prompt --map {name}\nSay {{{{ row }}}}").values == ["Say a", "Say b"]
    for name in ("dicts", "records", "column", "arrow"):
        assert notebook.run(f"%%prompt --map {name}\nSay {{{{ text }}}}").values == ["Say a", "Say b"]
    assert notebook.run("%%prompt --map df.head(1)\nSay {{ row['review'] }}").values == ["Say good book"]
    empty = notebook.run("%%prompt --map df.head(0)\nSay {{ review }}")
    assert (len(empty), empty.values) == (0, [])
    assert empty.df.columns[0] == "value"
    assert "no rows" in notebook.shown(empty)
    assert "No rows" in notebook.shown(empty, "text/html")


def test_values_that_are_missing(notebook: Notebook, rows: RowEngine) -> None:
    notebook.run("review = 'from the notebook'")
    notebook.shell.user_ns["df"] = pd.DataFrame(
        {"review": ["a", None, "b"], "stars": [1.0, 2.0, float("nan")], "day": [pd.NaT] * 3}
    )
    result = notebook.run("%%prompt --map df\nSay {{ review }} {{ stars }}")
    assert [row.value for row in result] == ["Say a 1.0", None, None]
    assert "Row 1 has no value for 'review'" in result[1].failure.message
    assert "Row 2 has no value for 'stars'" in result[2].failure.message
    result = notebook.run(
        "%%prompt --map df\nSay {{ review | default('nothing') }} {% if day is defined %}on {{ day }}{% endif %}"
    )
    assert result.values == ["Say a", "Say nothing", "Say b"]


def test_a_column_that_there_is_not(notebook: Notebook, rows: RowEngine) -> None:
    error = notebook.fail("%%prompt --map df\nSay {{ reviw }}")
    assert isinstance(error, TemplateError)
    assert "Did you mean review?" in str(error)
    notebook.shell.user_ns["texts"] = ["a"]
    assert "{{ row }}" in str(notebook.fail("%%prompt --map texts\nSay {{ text }}"))
    assert rows.asked == 0


def test_a_column_is_replaced_only_when_asked_or_when_a_map_wrote_it(
    notebook: Notebook, rows: RowEngine, frame: pd.DataFrame
) -> None:
    frame["answer"] = "mine"
    error = notebook.fail(MAP)
    assert isinstance(error, UsageError)
    assert "--replace" in str(error)
    assert (list(frame["answer"]), rows.asked) == (["mine"] * 4, 0)
    notebook.run(MAP.replace("--column", "--replace --column"))
    assert frame["answer"].iloc[1] == "Say bad film"
    notebook.run(MAP)  # the same cell once more is no reason to ask
    frame.iloc[1, 1] = "corrected by hand"
    assert "--replace" in str(notebook.fail(MAP))
    error = notebook.fail("%%prompt --map df --column review --replace\nSay {{ review }}")
    assert "reads the column" in str(error)


def test_a_secret_in_one_row_concerns_that_row_only(notebook: Notebook, rows: RowEngine) -> None:
    secret = "sk-proj-" + "Ab3dEf6hIj9" * 5
    notebook.shell.user_ns["df"] = pd.DataFrame({"review": ["a", f"key {secret}", "b", f"key {secret}"]})
    for computed in (3, 1):
        result = notebook.run("%%prompt --map df\nSay {{ review }}")
        assert result.computed == computed
        assert secret in result[1].value
        assert result[3].same_as == 1
        # Also an answer that does not repeat it.
        assert notebook.run("%%prompt --map df -n 1\n{{ review }}").computed == computed
    notebook.workspace.runs()
    for path in notebook.workspace.folder.parent.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_saved_prompts_map_too(
    notebook: Notebook, rows: RowEngine, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.run("%%prompt -s say -n 2 --map df --column first\nSay {{ review }} {{ end | default('') }}")
    assert frame["first"].iloc[0] == "Say good"
    result = notebook.run("%prompt say@1 end=! --map df --column second -n 9")
    assert frame["second"].iloc[0] == "Say good book !"
    assert prompts_of(notebook, result)[0].leaf["prompt"]["name"] == "say"
    frame["end"] = "?"
    assert "is a column too" in str(notebook.fail("%prompt say end=! --map df"))


def test_a_dry_run_shows_the_first_row(
    notebook: Notebook, rows: RowEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = notebook.run("%%prompt --map df --dry-run\nSay {{ review }}")
    assert dry.request.messages[0].content == "Say good book"
    assert "first row" in capsys.readouterr().out
    assert rows.asked == 0


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--map nothing", "no variable named"),
        ("--map ddf", "Did you mean df?"),
        ("--map (x for x in many)", "Put the expression between quotes"),
        ("--map [x] for", "'for' is not an option"),
        ("--map 1/0", "ZeroDivisionError"),
        ("--map 'df['", "can't be evaluated"),
        ("--map 5", "no type that holds rows"),
        ("--map text", "One text"),
        ("--map one", "list of dicts"),
        ("--map many --column x", "data frame"),
        ("--map df.head() --column x", "expression"),
        ("--column x", "no --map"),
        ("--retry 2", "no --map"),
        ("--map df --replace", "--column"),
        ("--map df --retry -1", "retries"),
        ("--map df --backend loky:0", "loky:0"),
    ],
)
def test_bad_lines(notebook: Notebook, rows: RowEngine, line: str, part: str) -> None:
    notebook.shell.user_ns |= {"text": "a", "one": {"review": "a"}, "many": ["a"]}
    error = notebook.fail(f"%%prompt {line}\nSay {{{{ review }}}}")
    assert isinstance(error, UsageError), repr(error)
    assert part in str(error)
    assert "\n" not in str(error)
    assert rows.asked == 0


def test_an_unknown_model_is_said_once(notebook: Notebook, rows: RowEngine) -> None:
    assert isinstance(notebook.fail("%%prompt --map df -m nonsense\nSay {{ review }}"), UnknownNameError)
    assert notebook.workspace.runs(kind="map")[0].status == "error"


def test_a_cluster_that_goes_away_leaves_what_came(
    notebook: Notebook, rows: RowEngine, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        on_done(0, Generation("first", (1,), 1, 0.1, "stop"))
        raise BackendError("The scheduler is gone.", "Start it again.")

    with monkeypatch.context() as patch:
        patch.setattr(rows, "generate_many", lost)
        assert isinstance(notebook.fail(MAP.replace("df", "df --into got")), BackendError)
    assert list(frame["answer"].notna()) == [True, False, True, False]
    assert notebook.shell.user_ns["got"].computed == 1
    result = notebook.run(MAP)
    assert (result.resumed, result.computed) == (2, 2)


def test_over_the_budget_nothing_is_computed(notebook: Notebook, rows: RowEngine) -> None:
    notebook.run("%config LLMOps.price_per_hour = {'cpu': 3600}")
    notebook.run("%%prompt --map df.head(1)\nSay {{ review }}")
    asked = rows.asked
    notebook.run("%budget 0.01USD")
    assert isinstance(notebook.fail("%%prompt --map df\nTell {{ review }}"), BudgetError)
    assert rows.asked == asked


def test_progress_says_rows_and_is_drawn_seldom(notebook: Notebook, rows: RowEngine) -> None:
    import time

    told: list[tuple[str, float | None]] = []
    begun = time.perf_counter()
    notebook.workspace.map(
        "Say {{ row }}", [str(number) for number in range(300)], progress=lambda *said: told.append(said)
    )
    seconds = time.perf_counter() - begun
    assert len(told) <= 3 + seconds / 0.1
    assert told[-1][0].startswith("300 of 300 rows")
    assert told[-1][1] == 1.0


def test_answers_are_escaped(notebook: Notebook, rows: RowEngine) -> None:
    notebook.shell.user_ns["df"] = pd.DataFrame({"review": ["<script>alert(1)</script>"]})
    shown = notebook.shown(notebook.run("%%prompt --map df\n{{ review }}"), "text/html")
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_what_tab_offers(notebook: Notebook, rows: RowEngine) -> None:
    from jupyter_llmops.magics.completer import candidates

    offered = list(candidates(notebook.workspace, notebook.shell, "prompt", "%%prompt --map d"))
    assert "df" in offered
    assert "--column" in list(
        candidates(notebook.workspace, notebook.shell, "prompt", "%%prompt --map df --co")
    )


def test_stored_answers_outlive_the_kernel(notebook: Notebook, rows: RowEngine, home: Path) -> None:
    from jupyter_llmops.cache.exact import ExactCache

    rows.stop_before = 2
    notebook.shell.run_cell(MAP)
    rows.stop_before = None
    # Another process has none of this one's memory, only the folder.
    workspace = notebook.workspace
    workspace.__dict__.pop("_unfinished_maps")
    assert isinstance(workspace.__dict__.pop("cache"), ExactCache)
    workspace.__dict__.pop("pipeline")
    result = notebook.run(MAP)
    assert (result.reused, result.computed) == (2, 1)


def test_a_template_that_reads_nothing_of_a_row_says_so(notebook: Notebook) -> None:
    notebook.run("city = 'Rome'; cities = ['Paris', 'Oslo']")
    result = notebook.run("%%prompt --map cities --into out\nThe capital {{ city }}")
    assert any("reads nothing of a row" in note for note in result.notes)
    reading = notebook.run("%%prompt --map cities --into out\nThe capital {{ row }}")
    assert reading.notes == ()


def test_a_cluster_for_one_prompt_is_refused(notebook: Notebook) -> None:
    assert "Add --map ROWS" in str(notebook.fail("%%prompt --backend loky:2\nHi"))
    notebook.run("%%prompt --backend kernel\nHi")
