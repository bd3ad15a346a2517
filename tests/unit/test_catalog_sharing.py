from __future__ import annotations

import collections
import threading
from pathlib import Path

import pytest

from catalog_processes import acknowledged, go, start_writers, write_at_once
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.schemas import SCHEMA_VERSION


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def test_an_open_handle_sees_the_commit_of_another_process_at_once(catalog: Catalog) -> None:
    catalog.prompts.publish("shared", "first")
    assert len(catalog.prompts.versions("shared")) == 1
    (writer,) = start_writers(catalog.folder, "same_name", ["bob"], 20)
    go([writer])
    assert writer.stdout is not None
    for number in range(20):
        writer.stdout.readline()
        # No waiting here: what was acknowledged there is visible here, now.
        assert len(catalog.prompts.versions("shared")) >= number + 2
        assert catalog.prompts.list()[0].version >= number + 2
    acknowledged([writer])


@pytest.mark.slow
def test_8_writers_at_once_lose_nothing_and_double_nothing(catalog: Catalog) -> None:
    count = 3
    stop = threading.Event()
    upkeep = Catalog(catalog.folder, site="lab", user="agent")

    def keep_optimizing() -> None:
        while not stop.wait(0.05):
            upkeep.optimize(after=5)

    thread = threading.Thread(target=keep_optimizing)
    thread.start()
    try:
        answers = write_at_once(catalog.folder, "everything", [f"writer{n}" for n in range(8)], count)
    finally:
        stop.set()
        thread.join()
    assert len(answers) == 8 * count

    # One catalog was created, each step of its schema recorded once.
    assert {answer[0] for _, _, answer in answers} == {SCHEMA_VERSION}
    assert catalog.describe().problem == ""
    (migrations,) = [table for table in catalog.describe().tables if table.name == "migrations"]
    assert migrations.rows == SCHEMA_VERSION

    # Of eight models of one name one was kept, the others were refused.
    (kept,) = catalog.models.list()
    said = collections.Counter(answer[1] for _, _, answer in answers)
    assert said == {kept.digest: count, "UsageError": 7 * count}

    # The same content has one version, and everyone was told which.
    agreed = {prompt.version: prompt.template for prompt in catalog.prompts.versions("agreed")}
    assert list(agreed) == list(range(1, count + 1))
    assert len(set(agreed.values())) == count
    assert all(agreed[answer[2]] == f"text {number}" for _, number, answer in answers)

    # New content under one name: every acknowledged version is there, and is the writer's own.
    shared = catalog.prompts.versions("shared")
    assert [prompt.version for prompt in shared] == list(range(1, 8 * count + 1))
    promised = {answer[3]: f"{writer} {number}" for writer, number, answer in answers}
    assert promised == {prompt.version: prompt.template for prompt in shared}

    # Every acknowledged move of the alias has a revision of its own, without gaps, and is in the history.
    history = catalog.models.history("prod")
    assert [move.revision for move in history] == list(range(1, 8 * count + 1))
    moved = {answer[4]: (f"{writer} {number}", writer) for writer, number, answer in answers}
    assert moved == {move.revision: (move.value, move.created_by) for move in history}
