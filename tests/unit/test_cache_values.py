"""Values come back exactly as they were, or are not kept; nothing is a pickle."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.values import UnkeepableError, decode_value, encode_value

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(plain)
def test_plain_values_come_back(value: Any):
    try:
        body = encode_value(value)
    except UnkeepableError as error:
        assert "can't be written" in str(error), "a lone surrogate"  # noqa: PT017
        return
    again, about = decode_value(body)
    assert repr(again) == repr(value)
    assert about == {}


FRAME = pd.DataFrame(
    {
        "n": pd.array([1, None, 3], dtype="Int64"),
        "text": ["a", "é", None],
        "when": pd.to_datetime(["2026-01-01", None, "2026-02-03"], utc=True),
        "kind": pd.Categorical(["x", "y", "x"], categories=["y", "x"], ordered=True),
        "x": np.array([0.1, np.nan, -0.0], dtype="float32"),
    },
    index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["k", "i"]),
)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.asfortranarray(np.random.default_rng(1).normal(size=(3, 4))),
        np.array([], dtype="datetime64[ns]"),
        np.array([(1, "a")], dtype=[("n", "i4"), ("t", "U3")]),
        np.zeros((2, 0, 3), dtype=bool),
    ],
)
def test_arrays_come_back(value: np.ndarray):
    again, _ = decode_value(encode_value({"deep": [value]}))
    back = again["deep"][0]
    assert (back.dtype, back.shape, back.flags.f_contiguous) == (
        value.dtype,
        value.shape,
        value.flags.f_contiguous,
    )
    np.testing.assert_array_equal(back, value)
    back.flags.writeable = True


@pytest.mark.parametrize(
    "value", [np.float32(0.1), np.int64(-3), np.datetime64("2026-01-01"), np.bool_(True)]
)
def test_scalars_of_numpy_come_back(value: Any):
    again, _ = decode_value(encode_value(value))
    assert (type(again), again) == (type(value), value)


def test_frames_and_series_come_back():
    frame = FRAME.copy()
    frame.attrs["source"] = "a test"
    again, about = decode_value(encode_value((frame, frame["x"], FRAME.reset_index()["n"]), {"who": "me"}))
    pd.testing.assert_frame_equal(again[0], frame)
    pd.testing.assert_series_equal(again[1], frame["x"])
    pd.testing.assert_series_equal(again[2], FRAME.reset_index()["n"])
    assert again[0].attrs == {"source": "a test"}
    assert about == {"who": "me"}
    empty, _ = decode_value(encode_value(pd.DataFrame()))
    assert empty.shape == (0, 0)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        lambda: 1,
        Decimal(1),
        dt.datetime.now(dt.UTC),
        np.array([object()]),
        np.ma.masked_array([1, 2], [0, 1]),
        type("Text", (str,), {})("x"),
        type("Frame", (pd.DataFrame,), {})({"a": [1]}),
        pd.DataFrame({"a": [1, "x", None]}),
        pd.DataFrame({"a": [object()]}),
        pd.DataFrame({"a": [{"b": 1}, [1]]}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({"a": [(1, 2)]}),
        [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]],
        "\ud800",
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_back_is_not_kept(value: Any):
    with pytest.raises(UnkeepableError):
        encode_value(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"0000",
        b"ffffffff{}",
        pickle.dumps([1]),
        b"00000002[]",
        encode_value([b"abc"])[:-1],
        encode_value(1) + b"x",
    ],
)
def test_other_bytes_are_rejected(body: bytes):
    with pytest.raises(ItemRejectedError):
        decode_value(body)


def test_an_array_of_objects_in_npy_is_not_unpickled():
    """Sealed by a member of the team who wants others to run code."""
    body = encode_value(np.array([1]))
    evil = body.replace(b"'<i8'", b"'|O' ")
    assert evil != body
    with pytest.raises(ItemRejectedError, match="allow_pickle"):
        decode_value(evil)
