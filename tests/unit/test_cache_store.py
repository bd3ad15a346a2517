"""The store under joblib.Memory: no pickle, no link followed, nobody's items wiped, shared folders honoured."""

from __future__ import annotations

import ast
import inspect
import io
import os
import pickle
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import joblib.hashing
import joblib.memory
import joblib.numpy_pickle
import pytest

from cache_answers import REQUEST, Engine, asking, item_path
from jupyter_llmops.cache.exact import CacheWarning, ExactCache
from jupyter_llmops.cache.item_folder import SUFFIX
from jupyter_llmops.cache.joblib_backend import BACKEND, JoblibStore, register
from jupyter_llmops.cache.leases import HOLDERS
from jupyter_llmops.cache.request_key import canonical_json, request_key


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.marker, "run"))


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


def test_joblib_calls_nothing_that_the_store_lacks():
    """What joblib's memory.py asks of a store is there, so no inherited pickle can ever step in."""
    source = ast.parse(inspect.getsource(joblib.memory))
    asked = {
        node.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "store_backend"
    }
    assert {"load_item", "dump_item", "contains_item"} <= asked
    store = JoblibStore()
    assert {name for name in asked if not hasattr(store, name)} == {"enforce_store_limits"}
    assert JoblibStore.__mro__ == (JoblibStore, object)


def test_planted_pickles_run_nothing(tmp_path: Path):
    """In every place where joblib's own store, this one or a curious reader would look."""
    folder, marker = tmp_path / "cache", tmp_path / "marker"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)
    assert marker.read_text() == "run", "the bomb is a dud, so this test would prove nothing"
    marker.unlink()

    key = request_key(REQUEST)
    canonical = canonical_json(REQUEST.canonical())
    md5 = joblib.hashing.hash({"request_json": canonical})
    function = "jupyter_llmops/cache/memoize/answer_request"
    for root in (folder, folder / "joblib"):
        for owner in (function, function.replace("/", "."), key[:2], "."):
            for call in (key, md5):
                place = root / owner / call
                place.mkdir(parents=True, exist_ok=True)
                for name in ("output.pkl", "metadata.json", "output.pkl.gz"):
                    (place / name).write_bytes(bomb)
            (root / owner / "func_code.py").write_bytes(bomb)
    item_path(folder).parent.mkdir(parents=True)
    item_path(folder).write_bytes(bomb)

    engine = Engine()
    with pytest.warns(CacheWarning, match="not in the format of this cache"):
        assert not ExactCache(folder).fetch(REQUEST, engine).hit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ExactCache(folder).fetch(REQUEST, engine).hit
    assert engine.asked == 1
    assert not marker.exists()


def test_miss_and_hit_with_every_unpickler_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was about to be unpickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (pickle, "_Unpickler"),
        (pickle, "dump"),
        (pickle, "dumps"),
        (joblib.numpy_pickle, "load"),
        (joblib.numpy_pickle, "dump"),
        (joblib.numpy_pickle, "NumpyUnpickler"),
    ):
        monkeypatch.setattr(module, name, refuse)
    engine = Engine()
    assert not ExactCache(tmp_path).fetch(REQUEST, engine).hit
    assert ExactCache(tmp_path).fetch(REQUEST, engine).hit
    assert engine.asked == 1


def test_joblib_itself_would_have_run_it(tmp_path: Path):
    """The hole that this store closes is there in joblib's own, so the tests above test something."""
    marker = tmp_path / "marker"
    memorized = joblib.Memory(tmp_path / "plain", verbose=0).cache(len)
    memorized("abc")
    (output,) = (tmp_path / "plain").rglob("output.pkl")
    output.write_bytes(pickle.dumps(Bomb(marker)))
    memorized("abc")
    assert marker.exists()


def test_items_hold_neither_the_request_nor_a_pickle(tmp_path: Path):
    request = asking("my very private question, Perú")
    ExactCache(tmp_path).fetch(request, Engine())
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != HOLDERS]
    assert files == [item_path(tmp_path, request)]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"private" in path.read_bytes()]
    data = files[0].read_bytes()
    assert b"private" not in data
    assert b"Lima" in data
    with pytest.raises(pickle.UnpicklingError):
        pickle.load(io.BytesIO(data))


@pytest.mark.usefixtures("umask")
def test_files_and_folders_honour_the_umask(tmp_path: Path):
    ExactCache(tmp_path / "a" / "b").fetch(REQUEST, Engine())
    path = item_path(tmp_path / "a" / "b")
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o775
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o775


def test_nothing_is_created_before_the_first_answer(tmp_path: Path):
    cache = ExactCache(tmp_path / "later")
    assert not cache.peek(REQUEST)
    assert cache.stats().entries == 0
    assert cache.clear() == 0
    assert not (tmp_path / "later").exists()
    with pytest.raises(RuntimeError):
        cache.fetch(REQUEST, _failing)
    assert not list(tmp_path.rglob("*.item"))


def _failing() -> Any:
    raise RuntimeError("the engine broke")


def test_an_item_behind_a_link_is_not_read(tmp_path: Path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    ExactCache(good).fetch(REQUEST, Engine())
    path = item_path(bad)
    path.parent.mkdir(parents=True)
    path.symlink_to(item_path(good))
    with pytest.warns(CacheWarning, match="symbolic link"):
        assert not ExactCache(bad).fetch(REQUEST, Engine()).hit
    assert path.is_file()
    assert not path.is_symlink(), "the link was replaced, not followed"
    assert ExactCache(bad).fetch(REQUEST, Engine()).hit


def test_a_file_too_large_is_not_read(tmp_path: Path):
    path = item_path(tmp_path)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.warns(CacheWarning, match=r"is too large \(1099511627776 bytes, at most 268435456\)"):
        assert not ExactCache(tmp_path).fetch(REQUEST, Engine()).hit
    assert ExactCache(tmp_path).fetch(REQUEST, Engine()).hit


@pytest.mark.parametrize("above", [0, 1])
def test_a_linked_folder_is_neither_written_nor_cleared(tmp_path: Path, above: int):
    """What lies behind it is read only where its seal proves it, which the next test shows."""
    good, bad, outside = tmp_path / "good", tmp_path / "bad", tmp_path / "outside"
    ExactCache(good).fetch(REQUEST, Engine())
    item_path(good).parents[above].rename(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*.item")}
    assert before
    link = item_path(bad).parents[above]
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    cache = ExactCache(bad)
    with pytest.warns(CacheWarning):
        result = cache.fetch(REQUEST, Engine())
    assert (result.hit, result.stored_at) == (False, None)
    assert cache.stats().entries == 0
    assert cache.clear() == 0
    assert {path: path.read_bytes() for path in outside.rglob("*.item")} == before


def test_the_folder_itself_may_be_a_link(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    ExactCache(tmp_path / "cache").fetch(REQUEST, Engine())
    assert ExactCache(tmp_path / "cache").fetch(REQUEST, Engine()).hit
    assert item_path(tmp_path / "disk").is_file()


def test_clear_removes_items_only(tmp_path: Path):
    cache = ExactCache(tmp_path)
    for number in range(5):
        cache.fetch(asking(f"question {number}"), Engine())
    fan = item_path(tmp_path, asking("question 0")).parent
    key = fan.name + "0" * 62
    abandoned = fan / f".{key}.4711-0123456789abcdef.tmp"
    abandoned.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    unfinished = fan / f".{key}.4712-0123456789abcdef.tmp"
    unfinished.write_bytes(b"being written")
    foreign = [
        tmp_path / "notes.txt",
        tmp_path / f"{key}{SUFFIX}",
        tmp_path / fan.name / f"{key}.v1.item",
        tmp_path / "v2-01234567" / fan.name / f"{key}{SUFFIX}",
        fan / "notes.txt",
        fan / f"{key}.item",
        fan / f"{key}-0123456789abcdef.v2.wrong",
        fan / ("0" * 64 if fan.name != "00" else "f" * 64) / "x",
        fan / f"{'f' * 64 if fan.name != 'ff' else '0' * 64}{SUFFIX}",
        tmp_path / "joblib" / "output.pkl",
        tmp_path / "abc" / f"{key}{SUFFIX}",
        unfinished,
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"mine")
    link = fan / f"{fan.name}{'1' * 62}{SUFFIX}"
    link.symlink_to(tmp_path / "notes.txt")

    assert (cache.stats().entries, cache.stats().others) == (5, 2)
    assert cache.clear() == 5
    assert all(path.exists() for path in foreign)
    assert link.is_symlink()
    assert not abandoned.exists()
    assert cache.stats().entries == 0
    assert not cache.fetch(asking("question 0"), Engine()).hit


def test_a_changed_comment_wipes_nothing(tmp_path: Path):
    """joblib asks its store to wipe a function's items when its source changes; ours doesn't."""
    ExactCache(tmp_path).fetch(REQUEST, Engine())
    before = item_path(tmp_path).read_bytes()
    register()
    for source in (
        "def answer(text):\n    # a comment\n    return {}\n",
        "def answer(text):\n    return {}\n",
    ):
        scope: dict[str, Any] = {"__name__": "answers"}
        exec(source, scope)
        memory = joblib.Memory(tmp_path, backend=BACKEND, verbose=0)
        for _ in range(2):
            memory.cache(scope["answer"])("{}")
    memory.cache(scope["answer"]).clear(warn=False)
    assert item_path(tmp_path).read_bytes() == before
    assert ExactCache(tmp_path).fetch(REQUEST, Engine()).hit


def test_items_of_other_keys_and_versions_are_left_alone_and_counted(tmp_path: Path):
    others = [
        tmp_path / "ab" / f"ab{'0' * 62}.v1.item",
        tmp_path / "v3-01234567" / "ab" / f"ab{'0' * 62}.v3.item",
        tmp_path / "v2-01234567" / "ab" / f"ab{'0' * 62}{SUFFIX}",
    ]
    for path in others:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"not ours")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExactCache(tmp_path).fetch(REQUEST, Engine())
        assert ExactCache(tmp_path).fetch(REQUEST, Engine()).hit
    stats = ExactCache(tmp_path).stats()
    assert (stats.entries, stats.others) == (1, 3)
    assert {path.read_bytes() for path in others} == {b"not ours"}


def test_any_plain_function_can_use_the_store(tmp_path: Path):
    register()
    calls = []

    def double(text: str) -> dict[str, Any]:
        calls.append(text)
        return {"twice": text * 2}

    memorized = joblib.Memory(tmp_path, backend=BACKEND, verbose=0).cache(double)
    results = [memorized(text) for text in ("a", "b", "a", "b", "a")]
    assert [result["twice"] for result in results] == ["aa", "bb", "aa", "bb", "aa"]
    # joblib compares the function's source once a process, and a store that keeps none misses then.
    assert calls in (["a", "b"], ["a", "b", "a"])
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".item"}


def test_what_is_not_plain_is_not_stored(tmp_path: Path):
    register()
    memorized = joblib.Memory(tmp_path, backend=BACKEND, verbose=0).cache(_a_set)
    with pytest.warns(CacheWarning, match="holds a set"):
        assert memorized("a") == {"a"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _a_set(text: str) -> set[str]:
    return {text}


def test_load_item_verifies_what_nobody_asked_about_before(tmp_path: Path):
    store = JoblibStore()
    store.configure(str(tmp_path))
    call = ("function", "ab" * 32)
    with pytest.raises(KeyError, match="no item"):
        store.load_item(call)
    store.dump_item(call, {"text": "Lima"})
    assert store.load_item(call) == {"text": "Lima"}
    (path,) = tmp_path.rglob(f"*{SUFFIX}")
    path.write_bytes(b"x" * 500)
    with pytest.raises(KeyError, match="not in the format"):
        store.load_item(call)
    store.clear_item(call)
    assert not path.exists()


def test_importing_the_room_is_light(repository: Path):
    program = (
        "import sys; before = set(sys.modules)\n"
        "import jupyter_llmops.cache.exact\n"
        "heavy = {'joblib', 'numpy', 'torch', 'pandas', 'pyarrow', 'lancedb', 'rfc8785', 'pickle'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(repository / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "[]"
