"""What `%cache why` says: plain words, the field that differs, content shortened, memory bounded."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from cache_answers import REQUEST, Engine, asking
from jupyter_llmops.cache.difference import RecentRequests, differing_fields
from jupyter_llmops.cache.exact import CacheWarning, ExactCache
from jupyter_llmops.cache.request_key import request_key
from jupyter_llmops.records.request import Message


@pytest.fixture
def cache(tmp_path: Path) -> ExactCache:
    return ExactCache(tmp_path)


def test_before_anything(cache: ExactCache):
    assert cache.why() == "Nothing was looked up in this session yet."


def test_first_miss_names_the_key(cache: ExactCache):
    result = cache.fetch(REQUEST, Engine())
    expected = f"Miss: nothing is stored yet for this request (key {result.key[:12]})."
    assert (cache.why(), result.why) == (expected, expected)


def test_hit_names_who_when_how_long_and_on_what(cache: ExactCache):
    stored = cache.fetch(REQUEST, Engine())
    result = cache.fetch(REQUEST, Engine())
    assert stored.stored_at is not None
    day = stored.stored_at.strftime("%Y-%m-%d %H:%M")
    for part in (
        "Hit: ",
        result.stored_by,
        f"{day} UTC",
        "2.5 s",
        REQUEST.model,
        REQUEST.engine_version,
        f"key {result.key[:12]}",
    ):
        assert part in result.why
        assert part in cache.why()
    assert "just now" in cache.why()
    assert "just now" not in result.why, "a sentence that is kept must not age"


def test_the_one_field_that_differs(cache: ExactCache):
    cache.fetch(asking("a", temperature=0.0, seed=1), Engine())
    cache.fetch(asking("a", temperature=0.7, seed=1), Engine())
    assert cache.why() == (
        "Miss: nothing is stored yet for this request; it differs from the request asked just now "
        "only in parameters.temperature 0.0 → 0.7."
    )


def test_age_of_the_nearest_request(cache: ExactCache, monkeypatch: pytest.MonkeyPatch):
    before = time.time() - 180
    with monkeypatch.context() as patch:
        patch.setattr("jupyter_llmops.cache.difference.time.time", lambda: before)
        cache.fetch(REQUEST, Engine())
    cache.fetch(replace(REQUEST, device="cuda"), Engine())
    assert 'asked 3 min ago only in device "cpu" → "cuda"' in cache.why()


def test_the_nearest_of_several_is_named(cache: ExactCache):
    cache.fetch(asking("one question", max_new_tokens=5), Engine())
    cache.fetch(asking("another thing"), Engine())
    cache.fetch(asking("one question", max_new_tokens=6), Engine())
    assert cache.why().endswith("only in parameters.max_new_tokens 5 → 6.")


def test_long_content_is_shortened_around_the_difference(cache: ExactCache):
    start, end = "the same beginning " * 200, " the same end" * 200
    cache.fetch(asking(f"{start}Alice to Bob{end}"), Engine())
    cache.fetch(asking(f"{start}Carol to Bob{end}"), Engine())
    why = cache.why()
    assert "only in messages[0].content" in why
    assert "Alice to Bob" in why
    assert "Carol to Bob" in why
    assert len(why) < 300


def test_more_or_fewer_messages(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    cache.fetch(replace(REQUEST, messages=(*REQUEST.messages, Message("user", "And Chile?"))), Engine())
    assert "messages.count 2 → 3" in cache.why()


def test_a_request_unlike_all_others_only_names_fields(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    other = replace(
        asking("secretive text", temperature=0.5, seed=4), model="m", model_digest="d", engine="e"
    )
    cache.fetch(other, Engine())
    assert "the nearest request, asked just now, differs in " in cache.why()
    assert "secretive" not in cache.why()


def test_asked_before_but_not_stored(cache: ExactCache):
    cache.fetch(REQUEST, Engine(), store=lambda _: False)
    cache.fetch(REQUEST, Engine())
    assert cache.why().startswith(
        "Miss: the same was asked just now, but its answer is not stored: it was not to be"
    )


def test_stored_before_and_removed_since(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    ExactCache(cache.folder).clear()
    cache.fetch(REQUEST, Engine())
    assert cache.why() == (
        "Miss: the same was asked just now, but its answer is not stored: it was removed since."
    )


def test_rejected_item_names_file_and_reason(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    (item,) = cache.folder.rglob("*.item")
    item.write_bytes(item.read_bytes()[:200])
    with pytest.warns(CacheWarning):
        result = cache.fetch(REQUEST, Engine())
    assert str(item) in cache.why()
    assert "does not fit its seal" in cache.why()
    assert result.why == cache.why()
    cache.fetch(asking("another"), Engine())
    assert str(item) not in cache.why(), "an old rejection explains no new miss"


def test_after_clear(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    cache.clear()
    assert cache.why() == "Nothing was looked up since the cache was cleared."
    cache.fetch(REQUEST, Engine())
    assert "nothing is stored yet for this request (key " in cache.why()


def test_an_explanation_survives_a_failed_computation(cache: ExactCache):
    cache.fetch(REQUEST, Engine())

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.fetch(replace(REQUEST, quantization="fp32"), fail)  # type: ignore[arg-type]
    assert 'only in quantization "nf4" → "fp32"' in cache.why()


def test_recent_requests_are_bounded():
    recent = RecentRequests(most=3, characters=100)
    for number in range(10):
        recent.add(str(number), asking("x" * 10))
    assert [recent.get(str(number)) is not None for number in range(10)] == [False] * 7 + [True] * 3
    recent.add("long", asking("x" * 90))
    assert recent.get("8") is None
    assert recent.get("9") is not None
    assert recent.get("long") is not None
    recent.add("too long", asking("x" * 101))
    assert recent.get("too long") is None
    assert recent.get("long") is not None
    for _ in range(50):
        recent.add("long", asking("x" * 90))
    assert recent.get("9") is not None, "asking again takes no more room"


def test_equal_requests_differ_in_nothing():
    assert differing_fields(REQUEST, replace(REQUEST)) == []


def test_values_that_python_calls_equal_differ():
    one = replace(REQUEST, parameters=replace(REQUEST.parameters, extra=(("a", 1),)))
    true = replace(REQUEST, parameters=replace(REQUEST.parameters, extra=(("a", True),)))
    assert request_key(one) != request_key(true)
    assert differing_fields(one, true) == ["parameters.extra.a 1 → true"]
    assert differing_fields(one, replace(one, parameters=replace(one.parameters, extra=()))) == [
        "parameters.extra.a 1 (gone)"
    ]
