"""Digests of arrays, frames, tables, tensors and models: by value, whatever their layout in memory."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import jupyter_llmops.audit.values.random_states  # noqa: F401 - the package has a function of this name
from jupyter_llmops.audit.environment import make_ready
from jupyter_llmops.audit.values import digest_value, digest_values, random_states, writer

SALT = "5a" * 16
random_module = sys.modules["jupyter_llmops.audit.values.random_states"]


def one(value: object, seconds: float = 5.0) -> str:
    return digest_values(["v"], {"v": value}, SALT, seconds)["v"]


def told(value: object) -> str:
    said = one(value)
    assert said.startswith("sha256:"), said
    return said


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": [1, 2, 3], "x": [0.5, np.nan, 2.0], "s": ["a", None, "ccc"], "o": pd.Series([1, "a", None], dtype=object),
            "c": pd.Categorical(["u", "v", "v"]), "i": pd.array([1, None, 3], dtype="Int64"),
            "t": pd.date_range("2026-01-01", periods=3, tz="Europe/Zurich"),
            "d": pd.to_timedelta([1, 2, 3], unit="s"), "p": pd.period_range("2026-01", periods=3, freq="M"),
            "a": pd.array([1.0, None, 2.0], dtype="float64[pyarrow]"), "b": [True, True, False],
        }
    )  # fmt: skip


def test_arrays_count_by_value_not_by_layout() -> None:
    rows = np.arange(60_000, dtype=np.int32).reshape(200, 300)
    assert told(rows) == told(np.asfortranarray(rows)) == told(np.vstack([rows, rows])[:200])
    assert told(rows) == told(rows[::-1][::-1])
    changed = rows.copy()
    before = told(changed)
    changed[100, 100] += 1
    assert told(changed) != before
    assert len({told(rows), told(rows.T), told(rows.reshape(-1)), told(rows.astype(np.int64))}) == 4


def test_what_lies_between_fields_does_not_count() -> None:
    dtype = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    first, second = np.zeros(3, dtype), np.frombuffer(b"\xff" * 48, dtype).copy()
    second["a"], second["b"] = 0, 0.0
    assert told(first) == told(second)
    second["b"][2] = 1
    assert told(first) != told(second)


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "bb"]), np.array([1, "a", None], dtype=object), np.array([1.5, 2], dtype=np.longdouble),
        np.array("2026-01-01", "M8[D]"), np.float32(1.5), np.int8(3), np.bool_(True), np.empty((0, 3)),
        np.random.default_rng(1), np.random.RandomState(1), np.array([1 + 2j]), np.dtype("f4"),
        np.array([(1, (2.0, 3.0))], dtype=[("a", "i4"), ("b", "f8", (2,))]), np.array(["x"], np.dtypes.StringDType()),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=str,
)  # fmt: skip
def test_each_kind_of_array_has_a_digest(value: object) -> None:
    assert told(value)


def test_arrays_in_files_and_large_ones_are_said_at_once(tmp_path: Path) -> None:
    huge = np.memmap(tmp_path / "sparse", mode="w+", dtype=np.uint8, shape=(10_000_000_000,))
    small = np.memmap(tmp_path / "small", mode="w+", dtype=np.uint8, shape=(10,))
    found = digest_values(
        "abcd", {"a": huge, "b": np.asarray(huge)[5:], "c": small, "d": np.broadcast_to(0.0, 10**10)}, SALT
    )
    assert found == {
        "a": "skipped: an array in a memory-mapped file",
        "b": "skipped: an array in a memory-mapped file",
        "c": "skipped: an array in a memory-mapped file",
        "d": "skipped: 80 GB, more than 64 MB",
    }
    assert digest_value(small) == digest_value(np.zeros(10, np.uint8))


def test_an_array_of_a_class_of_its_own_is_not_read() -> None:
    class Mine(np.ndarray):
        def __getattribute__(self, name: str) -> object:
            pytest.fail("its code was called")

    assert one(np.zeros(3).view(Mine)).startswith("skipped: type ")


def test_frames_count_by_value_not_by_blocks() -> None:
    whole = frame()
    pieces = pd.concat([whole.iloc[:1], whole.iloc[1:]])
    scattered = pd.DataFrame({name: whole[name].copy() for name in whole.columns})
    assert told(whole) == told(scattered) == told(whole.copy())
    assert told(whole["s"]) == told(pieces["s"].reset_index(drop=True))
    assert told(whole) != told(whole[::-1])
    for name in whole.columns:
        other = whole.copy()
        other[name] = whole[name].to_numpy()[::-1] if name == "o" else whole[name].iloc[::-1].array
        assert told(other) != told(whole), name
    assert told(whole.rename(columns={"n": "m"})) != told(whole)


def test_the_first_frame_has_a_digest_though_its_types_are_learnt_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slowly(name: str) -> object:
        time.sleep(0.02)
        return import_module(name)

    monkeypatch.setattr(writer, "_learned", set())
    monkeypatch.setattr(writer, "_handlers", {})
    monkeypatch.setattr(writer, "import_module", slowly)
    first = digest_values(["v"], {"v": pd.DataFrame({"a": [1, 2]})}, SALT, 0.015)["v"]
    assert first.startswith("sha256:"), first


def test_what_is_loaded_is_learnt_before_a_cell_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_learned", set())
    monkeypatch.setattr(writer, "_handlers", {})
    make_ready()
    assert {"plain", "arrays", "frames", "tensors"} <= writer._learned


def test_what_is_changed_in_a_frame_in_place_counts() -> None:
    table = frame()
    before = told(table)
    table.loc[1, "s"] = "b"
    assert told(table) != before


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1, 2], name="x"), pd.MultiIndex.from_product([[1, 2], ["a"]]), pd.RangeIndex(3), pd.NA, pd.NaT,
        pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-01", tz=ZoneInfo("Asia/Tokyo")),
        pd.Timedelta("1s"), pd.Index(["a", "b"]), pd.interval_range(0, 2), pd.DataFrame(),
        frame().groupby("c", observed=True).agg({"n": ["sum", "mean"]}), frame().set_index(["n", "s"]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_each_kind_of_pandas_value_has_a_digest(value: object) -> None:
    assert told(value)


def test_a_frame_that_holds_somebodys_objects_is_not_read() -> None:
    armed: list[bool] = []

    class Mine:
        def __getattribute__(self, name: str) -> object:
            if armed:
                pytest.fail("its code was called")
            return super().__getattribute__(name)

    table = pd.DataFrame({"a": [Mine(), Mine()]})
    armed.append(True)
    said = one(table)
    armed.clear()
    assert said.startswith("skipped: type ")


def test_tables_count_by_value_not_by_chunks() -> None:
    columns = {
        "n": pa.array([1, None, 3, 4]), "s": pa.array(["a", None, "", "dd"]), "b": pa.array([True, None, False, True]),
        "l": pa.array([[1], None, [], [2, None]]), "st": pa.array([{"x": 1}, None, {"x": None}, {"x": 2}]),
        "d": pa.array(["u", "v", None, "u"]).dictionary_encode(), "t": pa.array([1, 2, 3, None], pa.timestamp("us")),
        "m": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    }  # fmt: skip
    whole = pa.table(columns)
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    offset = pa.concat_tables([whole, whole]).combine_chunks().slice(4)
    assert told(whole) == told(pieces) == told(offset)
    for name in columns:
        assert told(whole[name]) == told(pieces[name])
        assert told(whole[name]) != told(whole[name].take([3, 2, 1, 0])), name


def test_tensors_and_modules_count_by_their_weights() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(4, 4)
            self.b = torch.nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.short = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))

        def state_dict(self, *args: object, **kwargs: object) -> dict[str, object]:
            pytest.fail("its code was called")

        def __getattr__(self, name: str) -> object:
            if armed:
                pytest.fail("its code was called")
            return super().__getattr__(name)

    armed: list[bool] = []
    torch.manual_seed(0)
    first, other = Net(), Net()
    torch.manual_seed(0)
    again = Net()
    armed.append(True)
    before = told(first)
    assert told(again) == before != told(other)
    armed.clear()
    with torch.no_grad():
        first.b.bias[0] += 1
    assert told(first) != before
    rows = torch.arange(12.0).reshape(3, 4)
    assert told(rows) == told(rows.t().contiguous().t())
    assert told(rows) != told(rows.t())
    assert told(torch.tensor([1 + 1j]).conj()) == told(torch.tensor([1 - 1j]))
    assert told({"w": rows}) != told({"w": rows + 1})
    assert one(torch.zeros(3, device="meta")) == "skipped: a tensor without data"
    assert one(torch.eye(3).to_sparse()).startswith("skipped: a tensor of layout")


def test_estimators_count_by_what_they_learned() -> None:
    texts, labels = ["aa bb", "bb cc", "cc dd", "dd ee"], [0, 1, 0, 1]

    def fitted(c: float = 1.0) -> object:
        return make_pipeline(TfidfVectorizer(), LogisticRegression(C=c)).fit(texts, labels)

    assert told(fitted()) == told(fitted()) != told(fitted(2.0))
    numbers = np.arange(20.0).reshape(10, 2)

    def forest(seed: int) -> object:
        return RandomForestClassifier(3, random_state=seed).fit(numbers, [0, 1] * 5)

    assert told(forest(1)) == told(forest(1)) != told(forest(2))

    class Mine(LogisticRegression):
        def __getattribute__(self, name: str) -> object:
            pytest.fail("its code was called")

    Mine.__module__ = "sklearn.linear_model._logistic"
    assert one(object.__new__(Mine)).startswith("skipped: type ")


def test_seeds_give_the_states_of_the_global_generators() -> None:
    np.random.seed(3)  # noqa: NPY002 - the legacy generator is meant
    torch.manual_seed(3)
    first = random_states()
    assert set(first) == {"python", "numpy", "torch"}
    torch.rand(1)
    second = random_states()
    assert second["torch"] != first["torch"]
    assert second["numpy"] == first["numpy"]
    np.random.rand()  # noqa: NPY002
    assert random_states()["numpy"] != first["numpy"]


def test_a_state_is_known_again_only_where_nothing_of_it_changed() -> None:
    generator = np.random.mtrand._rand  # type: ignore[attr-defined]

    def state() -> str:
        known = random_states()["numpy"]
        random_module._latest_written.clear()
        assert known == random_states()["numpy"]
        assert known == random_states()["numpy"]
        return known

    generator.seed(3)
    seeded = state()
    generator.normal()
    kept, one_kept = generator.get_state(), state()
    generator.normal()  # takes the number that was kept: the source does not move
    none_kept = state()
    assert len({seeded, one_kept, none_kept}) == 3
    generator.set_state(kept)
    assert state() == one_kept
    generator.seed(3)
    assert state() == seeded
