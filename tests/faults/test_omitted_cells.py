"""Cells left out of a log are found: from the counts, and from what the server saw, whatever they are renumbered to."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_llmops.audit.coverage import Coverage
from jupyter_llmops.audit.reading import list_journals, read_runs
from soak import SoakScale
from strange_notebook import Onlooker, run_notebook, stamping

if TYPE_CHECKING:
    from jupyter_llmops.records.trail import Gap


def gaps_in(leaves: list[dict[str, Any]]) -> tuple[Gap, ...]:
    coverage = Coverage()
    for one in leaves:
        coverage.take(one)
    return coverage.gaps()


def leaves_of(folder: Path) -> list[dict[str, Any]]:
    leaves = [dict(run.leaf or {}) for path in list_journals(folder) for run in read_runs(path)]
    for one in leaves:
        if one["kind"] == "session":
            one["kernel"] = "k"
    return leaves


def without(
    leaves: list[dict[str, Any]], omitted: list[dict[str, Any]], *, renumber: bool
) -> list[dict[str, Any]]:
    """Return a log that never had some of its cells, and whose later ones may have moved up by a number each."""
    kept: list[dict[str, Any]] = []
    moved = 0
    by_time = sorted(leaves, key=lambda one: str(one["started_at"]))
    numbers = {}
    top = 0
    for one in by_time:
        count = one.get("execution_count")
        if one["kind"] != "cell" or count is None:
            continue
        if one.get("store_history", True) and count <= top:
            moved = 0  # the count began anew
        top = count if one.get("store_history", True) else top
        numbers[one["id"]] = count - moved
        moved += one in omitted and one.get("store_history", True)
    for one in leaves:
        if one in omitted:
            continue
        changed = {"execution_count": numbers[one["id"]]} if renumber and one["id"] in numbers else {}
        kept.append(one | changed)
    return kept


def test_omitted_cells_are_found(tmp_path: Path, soak_scale: SoakScale) -> None:
    missed = wanted = 0
    for seed in soak_scale.cases(sample=3, full=70):  # 150 logs each: 10,500 in a soak
        lost, omitted = attack(tmp_path / str(seed), seed)
        missed, wanted = missed + lost, wanted + omitted
    assert missed <= wanted / 100, f"{missed} of {wanted} omitted cells were not found"


def attack(tmp_path: Path, seed: int) -> tuple[int, int]:
    """Return how many omitted cells were not found, and how many were omitted."""
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    chance = random.Random(seed)
    tmp_path.mkdir()
    script = tmp_path / "script.py"
    script.write_text("get_ipython().run_cell('in_script = 1')")
    onlooker = Onlooker(shell)
    stamper = stamping(shell, tmp_path)
    run_notebook(shell, chance, script, 60)
    stamper.unregister()
    stamper.journal.close()
    leaves = leaves_of(tmp_path)
    assert [gap for gap in gaps_in([*leaves, *onlooker.leaves]) if gap.reason != "silent"] == []
    # What a silent run runs without history has no number of its own, and no server hears of it.
    top = [one for one in leaves if one["kind"] == "cell" and not one["parent"] and onlooker.saw(one)]
    counted = [one for one in leaves if one["kind"] == "cell" and one.get("store_history", True)]
    counted.sort(key=lambda one: str(one["started_at"]))
    # Where no server looks on, whatever follows the last record of a count is out of sight.
    last = {one["id"] for one, after in pairwise([*counted, {"execution_count": 0}])
            if after["execution_count"] <= one["execution_count"]}  # fmt: skip
    missed = wanted = 0
    for trial in range(150):
        seen = trial % 3 > 0
        choice = top if seen else [one for one in counted if one["id"] not in last and not one["parent"]]
        omitted = chance.sample(choice, chance.randint(1, 3))
        changed = without(leaves, omitted, renumber=trial % 3 == 2)
        found = gaps_in([*changed, *(onlooker.leaves if seen else [])])
        wanted += len(omitted)
        missed += max(0, len(omitted) - sum(gap.cells for gap in found))
    return missed, wanted
