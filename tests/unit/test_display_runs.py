"""How runs show themselves: what a map's rows came from, and what an answer cost."""

from __future__ import annotations

from catalog_writer import a_run
from jupyter_llmops.display.registry import listing_text, run_html, run_text
from jupyter_llmops.records.listing import Listing

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
