"""A wrong answer is never served again, whatever the order of events; another answer is."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from cache_answers import GENERATION, REQUEST, Engine, asking, item_path
from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.item_folder import MARK_SUFFIX, ItemFolder
from jupyter_llmops.errors import UsageError

OTHER = Engine(replace(GENERATION, text="Quito."))


@pytest.fixture
def cache(tmp_path: Path) -> ExactCache:
    """Return a cache that has just served an answer."""
    cache = ExactCache(tmp_path / "cache")
    cache.fetch(REQUEST, Engine())
    assert cache.fetch(REQUEST, Engine()).hit
    return cache


def fresh(cache: ExactCache) -> ExactCache:
    """Return another process's cache of the folder."""
    return ExactCache(cache.folder)


def test_nobody_is_served_a_marked_answer(cache: ExactCache):
    before = fresh(cache)
    assert before.fetch(REQUEST, Engine()).hit
    mark = cache.mark_wrong("it is <i>Lima</i>")
    assert (mark.text, mark.why, mark.by.count("@")) == (GENERATION.text, "it is <i>Lima</i>", 1)
    for reader in (cache, before, fresh(cache)):
        for _ in range(2):
            engine = Engine()
            result = reader.fetch(REQUEST, engine)
            assert (result.hit, result.generation, result.stored_at, engine.asked) == (
                False,
                GENERATION,
                None,
                1,
            )
        assert not reader.peek(REQUEST)
        assert reader.find(REQUEST) is None
    assert "marked it as wrong" in before.why()
    assert "it is <i>Lima</i>" in before.why()


def test_a_miss_says_that_it_was_marked_and_right_finds_it_after_other_answers(cache: ExactCache):
    cache.mark_wrong("it is Lima")
    assert cache.find(REQUEST) is None
    assert "marked it as wrong" in cache.why()
    assert "removed since" not in cache.why()
    cache.fetch(asking("another"), OTHER)
    assert cache.mark_right().why == "it is Lima"
    assert cache.find(REQUEST) is not None
    with pytest.raises(UsageError, match="No answer"):
        cache.mark_right()


def test_another_answer_is_stored_and_served(cache: ExactCache):
    cache.mark_wrong()
    assert fresh(cache).fetch(REQUEST, OTHER).stored_at is not None
    result = fresh(cache).fetch(REQUEST, Engine())
    assert (result.hit, result.generation.text) == (True, "Quito.")


def test_an_item_that_is_put_back_is_not_served(cache: ExactCache, tmp_path: Path):
    """From a backup, or by whoever wants it back: its seal is right."""
    item = item_path(cache.folder)
    shutil.copy2(item, tmp_path / "backup")
    cache.mark_wrong()
    assert not item.exists()
    shutil.copy2(tmp_path / "backup", item)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not fresh(cache).fetch(REQUEST, Engine()).hit
        assert not cache.fetch(REQUEST, Engine()).hit


def test_a_mark_outlives_clear(cache: ExactCache):
    cache.mark_wrong()
    fresh(cache).fetch(REQUEST, OTHER)
    assert fresh(cache).clear() == 1
    assert fresh(cache).fetch(REQUEST, Engine()).stored_at is None


def test_marked_while_it_was_computed(cache: ExactCache, monkeypatch: pytest.MonkeyPatch):
    """Between a writer's look for the mark and its item in place: the writer takes its item back."""
    cache.clear()
    writer, write = fresh(cache), ItemFolder.write

    def marked_just_before(folder: ItemFolder, name: str, data: bytes):
        monkeypatch.setattr(ItemFolder, "write", write)
        other = fresh(cache)
        other.fetch(REQUEST, Engine())
        other.mark_wrong()
        return write(folder, name, data)

    monkeypatch.setattr(ItemFolder, "write", marked_just_before)
    writer.keep(REQUEST, GENERATION)
    assert not item_path(cache.folder).exists()
    assert not fresh(cache).fetch(REQUEST, Engine()).hit


def test_two_wrong_answers_are_both_wrong(cache: ExactCache):
    cache.mark_wrong("first")
    second = fresh(cache)
    second.fetch(REQUEST, OTHER)
    second.mark_wrong("second")
    for engine in (Engine(), OTHER):
        assert fresh(cache).fetch(REQUEST, engine).stored_at is None
    assert len(list(cache.folder.rglob(f"*{MARK_SUFFIX}"))) == 2
    assert second.mark_right().why == "second"
    assert fresh(cache).fetch(REQUEST, Engine()).generation.text == "Quito."
    assert not list(cache.folder.rglob(f"*{MARK_SUFFIX}"))


def test_right_brings_the_answer_back_with_its_provenance(cache: ExactCache):
    before = cache.fetch(REQUEST, Engine())
    cache.mark_wrong()
    fresh(cache).mark_right(REQUEST)
    after = fresh(cache).fetch(REQUEST, Engine())
    assert (after.hit, after.generation, after.stored_at) == (True, GENERATION, before.stored_at)
    assert after.provenance == before.provenance


def test_right_without_a_mark_and_wrong_without_an_answer(tmp_path: Path):
    cache = ExactCache(tmp_path)
    for attempt in (
        cache.mark_wrong,
        cache.mark_right,
        lambda: cache.mark_wrong(request=asking("never asked")),
    ):
        with pytest.raises(UsageError):
            attempt()


def test_a_mark_of_another_request_says_nothing_here(cache: ExactCache):
    """Renamed to this request by somebody who can write there: it does not verify."""
    elsewhere = asking("another")
    cache.fetch(elsewhere, Engine())
    cache.mark_wrong()  # the last answer is that of `elsewhere`
    (mark,) = cache.folder.rglob(f"*{MARK_SUFFIX}")
    assert cache.fetch(REQUEST, Engine()).hit
    here = item_path(cache.folder)
    mark.rename(here.with_name(here.name[:64] + mark.name[64:]))
    with pytest.warns(UserWarning, match="belongs to another request"):
        assert not fresh(cache).fetch(REQUEST, Engine()).hit


def test_marks_hold_no_text_of_the_request(cache: ExactCache):
    cache.mark_wrong("because")
    (mark,) = cache.folder.rglob(f"*{MARK_SUFFIX}")
    body = json.loads(mark.read_bytes().split(b"\n", 1)[1])
    assert set(body) == {"answer", "wrong"}
    assert REQUEST.messages[1].content not in mark.read_text("utf-8")
