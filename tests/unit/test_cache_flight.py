"""Claims and waits of the exact cache, as a map uses them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cache_answers import GENERATION, REQUEST, Engine, asking
from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.leases import Leases


def colleague(cache: ExactCache) -> Leases:
    return Leases(cache.store.items.location, who="bob@lab")


def test_what_is_claimed_is_computed_here_and_what_is_there_is_not(tmp_path: Path):
    cache, other = ExactCache(tmp_path), ExactCache(tmp_path)
    claim = cache.claim(REQUEST)
    assert claim is not None
    assert other.claim(REQUEST) is None
    cache.keep(REQUEST, GENERATION)
    claim.release()
    assert other.claim(REQUEST) is None  # it is there
    found = other.wait(REQUEST, seconds=60)
    assert found is not None
    assert found.hit


def test_fetch_within_a_claim_of_the_same_thread_computes(tmp_path: Path):
    cache = ExactCache(tmp_path)
    claim = cache.claim(REQUEST)
    assert claim is not None
    with claim:
        assert not cache.fetch(REQUEST, Engine()).hit
    assert cache.fetch(REQUEST, Engine()).hit


def test_a_wait_ends_when_nobody_computes_it_or_the_time_is_over(tmp_path: Path):
    cache = ExactCache(tmp_path)
    assert cache.wait(REQUEST, seconds=60) is None
    key = cache.claim(REQUEST)
    assert key is not None
    item = key.item
    key.release()
    taken = colleague(cache).take(item)
    assert cache.wait(REQUEST, seconds=0.05) is None
    assert taken is not None
    threading.Timer(0.1, taken.release).start()
    assert cache.wait(REQUEST, seconds=60) is None


def test_what_is_never_reused_is_nobodys(tmp_path: Path):
    cache, sampled = ExactCache(tmp_path), asking("draw", temperature=1.0)
    one, two = cache.claim(sampled), cache.claim(sampled)
    assert one is not None
    assert two is not None
    assert cache.wait(sampled, seconds=60) is None
    assert cache.claim(sampled, reuse=True) is not None
    assert not (tmp_path / "leases").exists()


def test_an_error_while_computing_lets_others_compute(tmp_path: Path):
    cache, other = ExactCache(tmp_path), ExactCache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.fetch(REQUEST, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert not other.fetch(REQUEST, Engine()).hit
    assert other.fetch(REQUEST, Engine()).hit


def test_a_wrong_or_foreign_item_is_computed_without_waiting(tmp_path: Path):
    cache = ExactCache(tmp_path)
    cache.fetch(REQUEST, Engine())
    cache.mark_wrong("no")
    other = Engine()
    assert not ExactCache(tmp_path).fetch(REQUEST, other).hit
    assert other.asked == 1


def test_hits_are_noted_for_the_evictor(tmp_path: Path):
    cache = ExactCache(tmp_path)
    cache.fetch(REQUEST, Engine())
    for _ in range(3):
        cache.fetch(REQUEST, Engine())
    cache.store.usage.flush()
    (log,) = Path(cache.store.items.location, "usage").iterdir()
    assert log.read_text().endswith(" 3\n")
