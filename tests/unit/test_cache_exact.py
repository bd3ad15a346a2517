"""The exact cache: the same request gets the same answer, nothing else does, and computing always goes on."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cache_answers import GENERATION, REQUEST, Engine, asking
from cache_answers import item_path as path_in
from jupyter_llmops.cache.exact import CacheWarning, ExactCache
from jupyter_llmops.cache.leases import HOLDERS
from jupyter_llmops.cache.recall import Recall
from jupyter_llmops.cache.request_key import request_key


@pytest.fixture(params=["disk", "memory"])
def cache(tmp_path: Path, request: pytest.FixtureRequest) -> ExactCache:
    """Return a cache whose hits come from disk, and one whose hits come from memory."""
    return ExactCache(tmp_path / "cache", Recall(most=0 if request.param == "disk" else 1024))


def item_path(cache: ExactCache, request: Any = REQUEST) -> Path:
    return path_in(cache.folder, request)


def test_second_call_is_a_hit_with_provenance(cache: ExactCache):
    engine, begin = Engine(), datetime.now(UTC)
    first = cache.fetch(REQUEST, engine)
    second = cache.fetch(REQUEST, engine)
    assert (first.hit, second.hit, engine.asked) == (False, True, 1)
    assert first.generation == second.generation == GENERATION
    assert first.key == second.key == request_key(REQUEST)
    assert first.stored_at == second.stored_at
    assert second.stored_at is not None
    assert begin <= second.stored_at <= datetime.now(UTC)
    assert second.stored_by.count("@") == 1


def test_every_part_of_an_answer_comes_back(cache: ExactCache):
    odd = replace(
        GENERATION,
        text='\x00 "quoted" \\ \u2028 é e\u0301 😀\r\n',
        token_ids=(0, 2**31, 7),
        seconds=0.1 + 0.2,
        tokens_in=0,
        finish_reason="length",
    )
    cache.fetch(REQUEST, Engine(odd))
    back = cache.fetch(REQUEST, Engine()).generation
    assert back == odd
    assert repr(back) == repr(odd)


def test_another_request_is_a_miss(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    other = Engine(replace(GENERATION, text="Quito"))
    assert cache.fetch(asking("Ecuador?"), other).generation.text == "Quito"
    assert cache.fetch(REQUEST, other).generation.text == GENERATION.text


def _fetch_elsewhere(folder: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from pathlib import Path\n"
        "from cache_answers import REQUEST, Engine\n"
        "from jupyter_llmops.cache.exact import ExactCache\n"
        "engine = Engine(); result = ExactCache(Path(sys.argv[1])).fetch(REQUEST, engine)\n"
        "print(result.hit, engine.asked, result.generation.text)"
    )
    path = os.pathsep.join([str(repository / "tests"), str(repository / "src")])
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )


def test_another_process_hits(tmp_path: Path, repository: Path):
    ExactCache(tmp_path).fetch(REQUEST, Engine())
    answer = _fetch_elsewhere(tmp_path, repository)
    assert answer.stdout.strip() == f"True 0 {GENERATION.text}"
    assert answer.stderr == ""


def test_what_others_cleared_is_a_miss_here(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    assert cache.fetch(REQUEST, Engine()).hit
    assert ExactCache(cache.folder).clear() == 1
    assert not cache.fetch(REQUEST, Engine()).hit


def test_what_others_replaced_is_read_anew(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    assert cache.fetch(REQUEST, Engine()).hit
    ExactCache(cache.folder).clear()
    ExactCache(cache.folder).fetch(REQUEST, Engine(replace(GENERATION, text="Lima again")))
    result = cache.fetch(REQUEST, Engine())
    assert (result.hit, result.generation.text) == (True, "Lima again")


def test_what_was_altered_behind_memory_is_rejected(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    assert cache.fetch(REQUEST, Engine()).hit
    path = item_path(cache)
    path.write_bytes(path.read_bytes().replace(b"Lima", b"Quit"))
    with pytest.warns(CacheWarning, match="does not fit its seal"):
        result = cache.fetch(REQUEST, Engine())
    assert (result.hit, result.generation) == (False, GENERATION)
    assert cache.stats().rejected == 1
    assert cache.fetch(REQUEST, Engine()).hit


def test_interrupted_answers_are_not_stored(cache: ExactCache):
    engine = Engine(replace(GENERATION, finish_reason="interrupted"))
    assert cache.fetch(REQUEST, engine).generation.finish_reason == "interrupted"
    result = cache.fetch(REQUEST, engine)
    assert (result.hit, result.stored_at, engine.asked) == (False, None, 2)
    assert "interrupted" in cache.why()
    assert cache.stats().entries == 0


def test_a_veto_keeps_an_answer_out(cache: ExactCache):
    seen = []
    result = cache.fetch(REQUEST, Engine(), store=lambda generation: seen.append(generation) or False)
    assert (result.hit, result.stored_at, result.stored_by) == (False, None, "")
    assert seen == [GENERATION]
    assert not cache.peek(REQUEST)
    assert cache.fetch(REQUEST, Engine()).stored_at is not None


def test_a_failing_computation_stores_nothing(cache: ExactCache):
    for failure in (RuntimeError("broken"), KeyboardInterrupt()):

        def fail(failure: BaseException = failure) -> Any:
            raise failure

        with pytest.raises(type(failure)):
            cache.fetch(REQUEST, fail)
    assert cache.why().startswith("Miss: ")
    assert cache.stats().entries == 0
    assert not cache.fetch(REQUEST, Engine()).hit


def test_sampling_without_a_seed_is_neither_stored_nor_reused(cache: ExactCache):
    engine, request = Engine(), asking("a poem", temperature=0.7)
    for _ in range(2):
        result = cache.fetch(request, engine)
        assert (result.hit, result.stored_at) == (False, None)
    assert engine.asked == 2
    assert not cache.peek(request)
    assert not cache.folder.exists()
    assert "without a seed" in cache.why()
    assert result.why == cache.why()
    seeded = asking("a poem", temperature=0.7, seed=0)
    assert [cache.fetch(seeded, engine).hit for _ in range(2)] == [False, True]


def test_what_has_no_canonical_form_is_computed(cache: ExactCache):
    for request in (asking("x", seed=2**60), asking("\ud800"), asking("x", extra=(("top_p", float("nan")),))):
        engine = Engine()
        result = cache.fetch(request, engine)
        assert (result.hit, result.key, engine.asked) == (False, "", 1)
        assert "canonical" in cache.why()
        assert not cache.peek(request)


def test_switched_off_neither_reads_nor_stores(cache: ExactCache):
    cache.fetch(REQUEST, Engine())
    cache.enabled = False
    engine = Engine()
    assert not cache.fetch(REQUEST, engine).hit
    assert not cache.fetch(asking("new"), engine).hit
    assert engine.asked == 2
    assert not cache.peek(REQUEST)
    assert "off" in cache.why()
    stats = cache.stats()
    assert (stats.misses, stats.bypassed, stats.entries, stats.enabled) == (1, 2, 1, False)
    cache.enabled = True
    assert cache.fetch(REQUEST, engine).hit


def test_bypass_says_why_and_remembers_nothing(cache: ExactCache):
    engine = Engine()
    result = cache.bypass(asking("token hunter2"), engine, "the prompt seems to hold a secret")
    assert (result.hit, result.stored_at, engine.asked) == (False, None, 1)
    assert cache.why() == result.why == "Not looked up: the prompt seems to hold a secret."
    assert not cache.folder.exists()
    cache.fetch(asking("token hunter3"), engine)
    assert "hunter2" not in cache.why()


def test_peek_changes_nothing(cache: ExactCache):
    assert not cache.peek(REQUEST)
    cache.fetch(REQUEST, Engine())
    before, why = cache.stats(), cache.why()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.peek(REQUEST)
        assert not cache.peek(asking("new"))
        item_path(cache).write_bytes(b"broken")
        assert not cache.peek(REQUEST)
    assert cache.why() == why
    assert replace(cache.stats(), size_bytes=0) == replace(before, size_bytes=0)


def test_stats_count_this_session_and_the_disk(cache: ExactCache):
    assert cache.stats().hit_rate is None
    cache.fetch(REQUEST, Engine())
    for _ in range(3):
        cache.fetch(REQUEST, Engine())
    cache.fetch(asking("new"), Engine())
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.rejected, stats.bypassed) == (3, 2, 0, 0)
    assert stats.hit_rate == 0.6
    assert 0 < stats.seconds_saved <= 3 * GENERATION.seconds
    assert stats.entries == 2
    assert stats.size_bytes == sum(path.stat().st_size for path in cache.folder.rglob("*.item"))
    assert stats.folder == str(cache.folder)
    other = ExactCache(cache.folder).stats()
    assert (other.hits, other.misses, other.entries) == (0, 0, 2)


def test_a_hit_slower_than_computing_saves_nothing(cache: ExactCache):
    quick = Engine(replace(GENERATION, seconds=0.0))
    cache.fetch(REQUEST, quick)
    assert cache.fetch(REQUEST, quick).hit
    assert cache.stats().seconds_saved == 0


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Drop the rights of root, who may write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def _open_to_nobody(folder: Path) -> None:
    """Make pytest's own folders, which are 0700, passable."""
    while folder.name.startswith(("pytest-", "test_")) or folder.parent.name.startswith("pytest-"):
        folder.chmod(0o755)
        folder = folder.parent


def test_unwritable_folder_warns_once_and_computes(tmp_path: Path):
    _open_to_nobody(tmp_path)
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o555)
    cache, engine = ExactCache(folder), Engine()
    assert cache.store.key  # root's file, which nobody may not read
    with _as_nobody(), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = [
            cache.fetch(REQUEST, engine),
            cache.fetch(asking("new"), engine),
            cache.fetch(REQUEST, engine),
        ]
    assert [result.hit for result in results] == [False] * 3
    assert [result.generation for result in results] == [GENERATION] * 3
    assert [result.stored_at for result in results] == [None] * 3
    (warning,) = seen
    assert str(warning.message).startswith(f"Answers can't be stored in {folder}: Permission denied. ")
    assert "Permission denied" in cache.stats().problem
    assert "Permission denied" in cache.why()

    folder.chmod(0o755)
    assert cache.fetch(REQUEST, engine).stored_at is not None
    assert cache.stats().problem == ""
    assert cache.fetch(REQUEST, engine).hit


def test_unreadable_item_is_a_miss(tmp_path: Path):
    cache = ExactCache(tmp_path / "cache", Recall(most=0))
    cache.fetch(REQUEST, Engine())
    _open_to_nobody(tmp_path)
    item_path(cache).chmod(0o000)
    item_path(cache).parent.chmod(0o777)
    with _as_nobody(), pytest.warns(CacheWarning, match="can't be read"):
        assert cache.fetch(REQUEST, Engine()).generation == GENERATION
    assert cache.stats().rejected == 1


def test_a_file_where_the_folder_should_be(tmp_path: Path):
    (tmp_path / "cache").write_text("not a folder")
    cache = ExactCache(tmp_path / "cache")
    with pytest.warns(CacheWarning):
        assert cache.fetch(REQUEST, Engine()).generation == GENERATION
    assert cache.stats().entries == 0
    assert cache.clear() == 0


@contextmanager
def _disk_full_after(size: int) -> Iterator[None]:
    """Let the kernel refuse to write files longer than this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def files_of_items(folder: Path) -> list[Path]:
    """Return all files but those that say which process lives."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != HOLDERS]


def test_a_write_that_stops_midway_leaves_nothing(tmp_path: Path):
    cache, engine = ExactCache(tmp_path), Engine()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with _disk_full_after(100):
            results = [cache.fetch(REQUEST, engine), cache.fetch(asking("new"), engine)]
    assert [result.generation for result in results] == [GENERATION] * 2
    assert [result.stored_at for result in results] == [None] * 2
    assert len(seen) == 1
    assert "File too large" in str(seen[0].message)
    assert not files_of_items(tmp_path)
    assert cache.fetch(REQUEST, engine).stored_at is not None


def test_full_disk_keeps_the_older_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cache = ExactCache(tmp_path, Recall(most=0))
    cache.fetch(REQUEST, Engine())
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) - 50])

    monkeypatch.setattr(os, "write", full)
    with pytest.warns(CacheWarning, match="No space left"):
        assert cache.fetch(asking("new"), Engine()).generation == GENERATION
    assert cache.fetch(REQUEST, Engine()).hit
    assert [path.name for path in files_of_items(tmp_path)] == [item_path(cache).name]


def test_an_empty_folder_in_an_items_place_is_replaced(tmp_path: Path):
    cache = ExactCache(tmp_path)
    item_path(cache).mkdir(parents=True)
    with pytest.warns(CacheWarning, match="not a regular file"):
        assert not cache.fetch(REQUEST, Engine()).hit
    assert cache.fetch(REQUEST, Engine()).hit


def test_warnings_are_one_line_and_joblib_says_nothing(tmp_path: Path, repository: Path):
    cache = ExactCache(tmp_path)
    cache.fetch(REQUEST, Engine())
    item_path(cache).write_bytes(b"broken")
    answer = _fetch_elsewhere(tmp_path, repository)
    assert answer.stdout.strip() == f"False 1 {GENERATION.text}"
    assert answer.stderr.startswith("jupyter_llmops:0: CacheWarning: Not used: the item ")
    assert len(answer.stderr.splitlines()) == 1


def test_threads_share_a_cache(cache: ExactCache):
    wrong, engines = [], [Engine(replace(GENERATION, text=f"answer {number}")) for number in range(20)]

    def ask(offset: int) -> None:
        for step in range(100):
            number = (offset * 7 + step) % 20
            result = cache.fetch(asking(f"question {number}"), engines[number])
            if result.generation.text != f"answer {number}":
                wrong.append(result)

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    stats = cache.stats()
    assert stats.hits + stats.misses == 800
    assert (stats.entries, stats.rejected) == (20, 0)


def test_a_fetch_inside_a_fetch(cache: ExactCache):
    inner = asking("inner")

    def compute() -> Any:
        return replace(cache.fetch(inner, Engine()).generation, text="outer")

    assert cache.fetch(REQUEST, compute).generation.text == "outer"
    assert cache.fetch(REQUEST, Engine()).generation.text == "outer"
    assert cache.fetch(inner, Engine()).generation == GENERATION
    assert cache.stats().hits == 2


def test_memory_is_bounded(tmp_path: Path):
    recall = Recall(most=3, largest_bytes=10_000)
    cache = ExactCache(tmp_path, recall)
    for number in range(5):
        cache.fetch(asking(f"question {number}"), Engine())
    keys = [request_key(asking(f"question {number}")) for number in range(5)]
    assert [recall.get(key) is not None for key in keys] == [False, False, True, True, True]
    cache.fetch(asking("long"), Engine(replace(GENERATION, text="x" * 20_000)))
    assert recall.get(request_key(asking("long"))) is None
    assert cache.fetch(asking("long"), Engine()).hit
