"""An item's bytes: what was written comes back, everything else is rejected, nothing is run."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_answers import GENERATION
from jupyter_llmops.cache.item_format import (
    HEADER_BYTES,
    ItemRejectedError,
    decode_item,
    encode_item,
    seconds_of,
)
from jupyter_llmops.cache.plain_json import plain_dumps, plain_loads

SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
ITEM, OTHER = "1f" * 32, "2e" * 32
VALUE = {"text": GENERATION.text, "token_ids": [17, 4, 2], "seconds": 2.5, "none": None, "yes": True}

closed_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


GOOD = encode_item(SECRET, ITEM, plain_dumps(VALUE), 2.5)


@given(closed_values)
def test_what_was_written_comes_back(value: Any):
    decoded = plain_loads(decode_item(SECRET, ITEM, encode_item(SECRET, ITEM, plain_dumps(value))))
    assert decoded == value
    assert repr(decoded) == repr(value)


@given(st.binary(max_size=300), st.floats(0, 1e9))
def test_any_bytes_and_durations_come_back(body: bytes, seconds: float):
    data = encode_item(SECRET, ITEM, body, seconds)
    assert decode_item(SECRET, ITEM, data) == body
    assert data[HEADER_BYTES:] == body
    assert abs(seconds_of(data[:HEADER_BYTES]) - seconds) <= 0.0005 + seconds * 1e-9


def test_a_duration_beyond_all_sense_is_cut():
    assert seconds_of(encode_item(SECRET, ITEM, b"", 1e30)) == (10**12 - 1) / 1000
    assert seconds_of(encode_item(SECRET, ITEM, b"", -5)) == 0
    assert seconds_of(b"") == seconds_of(b"x" * 200) == 0


def test_another_key_another_id_and_another_kind_are_rejected():
    for secret, item_id, kind in (
        (OTHER_SECRET, ITEM, "item"),
        (SECRET, OTHER, "item"),
        (SECRET, ITEM, "mark"),
    ):
        with pytest.raises(ItemRejectedError):
            decode_item(secret, item_id, GOOD, kind)
    assert decode_item(SECRET, ITEM, GOOD, "item")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"bytes",
        (1, 2),
        {1: "a"},
        {"a": {2}},
        [float("nan")],
        float("inf"),
        "\ud800",
        type("Text", (str,), {})("subclass"),
        type("Number", (int,), {})(3),
    ],
)
def test_other_types_are_not_written(value: Any):
    with pytest.raises((TypeError, ValueError)):
        plain_dumps(value)


def test_too_deep_is_not_written():
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    with pytest.raises(ValueError, match="deeply"):
        plain_dumps(value)


def test_every_flipped_bit_is_rejected():
    data = GOOD
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(ItemRejectedError):
                decode_item(SECRET, ITEM, bytes(changed))


def test_every_truncation_and_any_addition_is_rejected():
    data = GOOD
    for length in range(len(data)):
        with pytest.raises(ItemRejectedError):
            decode_item(SECRET, ITEM, data[:length])
    for addition in (b"\n", b" ", b"\0", b"}", data):
        with pytest.raises(ItemRejectedError):
            decode_item(SECRET, ITEM, data + addition)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (encode_item(SECRET, OTHER, plain_dumps(VALUE)), "belongs to another request"),
        (GOOD[:100], "is cut short"),
        (GOOD[:-1], "does not fit its seal"),
        (encode_item(OTHER_SECRET, ITEM, plain_dumps(VALUE)), "without the team's key"),
        (pickle.dumps(VALUE), "is not in the format of this cache"),
        (b"llmops-item/3 " + GOOD[14:], "is not in the format of this cache"),
        (GOOD.upper(), "is not in the format of this cache"),
    ],
)
def test_rejected_with_its_reason(data: bytes, reason: str):
    with pytest.raises(ItemRejectedError, match=reason):
        decode_item(SECRET, ITEM, data)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":1e999}', "too large"),
        (b"[" * 100_000, None),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, None),
        (b"\xff\xfe", None),
        (b"", None),
        (b"{} {}", None),
        (b"9" * 10_000, None),
        (pickle.dumps(VALUE), None),
    ],
)
def test_what_is_no_strict_json_is_refused(body: bytes, reason: str | None):
    with pytest.raises(ValueError, match=reason):
        plain_loads(body)
