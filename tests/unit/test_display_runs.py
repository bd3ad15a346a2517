"""How runs show themselves: what a map's rows came from, and what an answer cost."""

from __future__ import annotations

from datetime import UTC, datetime

from catalog_writer import a_run
from jupyter_llmops.display.registry import listing_text, run_html, run_text
from jupyter_llmops.display.run import run_view_html, run_view_text
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.run_search import RunView

MAP = {"rows": 1200, "computed": 4, "reused": 1195, "failed": 1, "cost_millionths": 1500, "currency": "EUR"}


def test_a_map_says_what_its_rows_came_from_and_what_they_cost() -> None:
    text = listing_text(Listing("run", [a_run("s", 0, kind="map", leaf=MAP)]))
    assert "1,200 rows: 4 model, 1,195 cache, 1 failed" in text
    assert "0.0015 EUR" in text
    assert "1 row: 1 model" in run_text(a_run("s", 0, kind="map", leaf={"rows": 1, "computed": 1}))


def test_a_hit_says_what_it_saved_and_who_computed_it() -> None:
    leaf = {
        "cost_millionths": 0,
        "saved_millionths": 250_000,
        "currency": "USD",
        "reused": {"stored_by": "ada@<lab>", "stored_at": "2026-11-22"},
        "determinism": "same tokens",
        "batch_size": 16,
        "quantization": "nf4",
        "device": "cpu",
    }
    run = a_run("s", 0, kind="prompt", source="cache", parent="f" * 16, leaf=leaf)
    text = run_text(run)
    for said in ("0 USD", "0.25 USD", "ada@<lab> 2026-11-22", "same tokens", "16", "nf4 on cpu", "f" * 16):
        assert said in text
    assert "ada@&lt;lab&gt;" in run_html(run)


def test_what_nobody_knows_is_absent() -> None:
    assert "USD" not in run_text(a_run("s", 0, kind="prompt", leaf=None))
    assert "saved" not in run_text(a_run("s", 0, kind="prompt"))


def test_a_run_says_who_had_it_run_where_and_when() -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    leaf = {"actor": "agent", "client": "5d41402abc4b", "cell": "f3a9", "session": "s"}
    run = a_run("s", 3, execution_count=7, notebook="/team/zoo.ipynb", started_at=began, leaf=leaf)
    opening = a_run("s", 0, kind="session", leaf={"kernel": "0123456789abcdef", "pid": 4711})
    view = RunView(run, opening=opening)
    moment = began.astimezone().isoformat(sep=" ", timespec="seconds")
    for shown in (run_view_text(view), run_view_html(view)):
        for said in (
            moment, "ada@lab", "01234567, process 4711", "/team/zoo.ipynb", "In[7], f3a9", "250 ms",
            "an agent", "client 5d41402abc4b",
        ):  # fmt: skip
            assert said in shown.replace("&#x27;", "'")
        assert "89abcdef" not in shown
    assert "kernel" not in run_view_text(RunView(run))


def test_a_cell_that_a_cell_ran_does_not_bear_the_next_ones_number() -> None:
    inner = a_run("s", 3, execution_count=8, parent="c" * 16, leaf={"store_history": False})
    prompt = a_run("s", 4, execution_count=7, parent="c" * 16, kind="prompt")
    shown = listing_text(Listing("run", [inner, prompt]))
    assert "In[7]" in shown
    assert "In[8]" not in shown + run_view_text(RunView(inner))


def test_what_a_run_ran_on_has_nothing_of_a_leaf_s_frame() -> None:
    frame = {
        "schema": "x",
        "hash": "x",
        "seq": 1,
        "prev": "x",
        "session": "x",
        "id": "x",
        "kind": "environment",
    }
    frame |= {
        "started_at": "x",
        "microseconds": 0,
        "user": "ada",
        "host": "lab",
        "status": "ok",
        "digests": {},
    }
    ran_on = a_run("s", 1, kind="environment", leaf={**frame, "python": "3.11.7"})
    text = run_view_text(RunView(a_run("s", 2), environment=ran_on))
    assert text.endswith("environment\n  python  3.11.7")
