"""An item's bytes: what was written comes back, everything else is rejected, nothing is run."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_answers import GENERATION
from jupyter_llmops.cache.item_format import FORMAT, ItemRejectedError, decode_item, encode_item, seal

ITEM, OTHER = "1f" * 32, "2e" * 32
VALUE = {"text": GENERATION.text, "token_ids": [17, 4, 2], "seconds": 2.5, "none": None, "yes": True}

closed_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


def sealed(body: bytes, item_id: str = ITEM) -> bytes:
    """Return an item whose seal is right, whatever its body is."""
    return b"%s %s %s\n%s" % (FORMAT, item_id.encode(), seal(item_id, body), body)


@given(closed_values)
def test_what_was_written_comes_back(value: Any):
    decoded = decode_item(ITEM, encode_item(ITEM, value))
    assert decoded == value
    assert repr(decoded) == repr(value)


def test_sealed_as_the_encoder_does():
    assert sealed(b'{"a":1}') == encode_item(ITEM, {"a": 1})


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
        encode_item(ITEM, value)


def test_too_deep_is_not_written():
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    with pytest.raises(ValueError, match="deeply"):
        encode_item(ITEM, value)


def test_every_flipped_bit_is_rejected():
    data = encode_item(ITEM, VALUE)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(ItemRejectedError):
                decode_item(ITEM, bytes(changed))


def test_every_truncation_and_any_addition_is_rejected():
    data = encode_item(ITEM, VALUE)
    for length in range(len(data)):
        with pytest.raises(ItemRejectedError):
            decode_item(ITEM, data[:length])
    for addition in (b"\n", b" ", b"\0", b"}", data):
        with pytest.raises(ItemRejectedError):
            decode_item(ITEM, data + addition)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (encode_item(OTHER, VALUE), "belongs to another request"),
        (encode_item(ITEM, VALUE)[:100], "is cut short"),
        (encode_item(ITEM, VALUE)[:-1], "checksum"),
        (pickle.dumps(VALUE), "is not in the format of this cache"),
        (b"llmops-item/2 " + encode_item(ITEM, VALUE)[14:], "is not in the format of this cache"),
        (encode_item(ITEM, VALUE).upper(), "is not in the format of this cache"),
        (sealed(b'{"a":1,"a":2}'), "twice"),
        (sealed(b'{"a":{"b":1,"b":1}}'), "twice"),
        (sealed(b'{"a":NaN}'), "NaN"),
        (sealed(b'{"a":-Infinity}'), "Infinity"),
        (sealed(b'{"a":1e999}'), "too large"),
        (sealed(b"[" * 100_000), "no plain JSON"),
        (sealed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "no plain JSON"),
        (sealed(b"\xff\xfe"), "no plain JSON"),
        (sealed(b""), "no plain JSON"),
        (sealed(b"{} {}"), "no plain JSON"),
        (sealed(b"9" * 10_000), "no plain JSON"),
        (sealed(pickle.dumps(VALUE)), "no plain JSON"),
    ],
)
def test_rejected_with_its_reason(data: bytes, reason: str):
    with pytest.raises(ItemRejectedError, match=reason):
        decode_item(ITEM, data)
