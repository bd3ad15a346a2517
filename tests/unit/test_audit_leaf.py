"""The leaf's bytes are RFC 8785, whichever way they were made."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_llmops.audit import leaf as leaves

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.floats(allow_nan=False, allow_infinity=False)
)
KEYS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["a", "b", "é", "\ue000", "😀", "\x7f"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_both_encoders_write_the_same_bytes(value: dict[str, Any]) -> None:
    assert leaves.canonical(value) == rfc8785.dumps(value)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(max_codepoint=127)), st.text(st.characters(exclude_categories=["Cs"]))
    )
)
def test_the_faster_encoder_is_used_and_equal(value: dict[str, str]) -> None:
    assert leaves._same_in_both(value)
    assert leaves.canonical(value) == rfc8785.dumps(value)


def test_every_character_is_escaped_as_the_standard_says() -> None:
    everything = "".join(map(chr, [*range(0x300), *range(0x2020, 0x2030), 0xFFFD, 0xFFFF, 0x1F600]))
    assert leaves._same_in_both({"text": everything})
    assert leaves.canonical({"text": everything}) == rfc8785.dumps({"text": everything})


@pytest.mark.parametrize(
    "value",
    [{"x": 1.0}, {"x": 2**53}, {"é": 1, "z": 2}, {"\ue000": 1, "😀": 2}, {"x": [1e21]}, {"x": {"y": -0.0}}],
    ids=repr,
)
def test_where_they_could_differ_the_library_decides(value: dict[str, Any]) -> None:
    assert not leaves._same_in_both(value)


@pytest.mark.parametrize("value", [2**53, -(2**53), math.nan, math.inf, "\ud800", object(), {1: 2}, b"x"])
def test_what_has_no_form_is_refused_by_the_encoder_and_made_plain(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own messages
        leaves.canonical({"x": value})
    assert rfc8785.dumps(leaves.plain({"x": value}))


class Loud:
    """Raises when it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("never called")

    __str__ = __repr__


class Level(IntEnum):
    HIGH = 3


def test_plain_keeps_what_is_plain_and_never_calls_the_rest() -> None:
    value = {
        "a": [1, "é", None, True, 1.5],
        "b": {"c": Loud()},
        "d": (1, Level.HIGH),
        "e": 2**60,
        "f": math.nan,
    }
    plain = leaves.plain(value)
    assert plain == {
        "a": [1, "é", None, True, 1.5],
        "b": {"c": "<Loud>"},
        "d": [1, 3],
        "e": "0x1000000000000000",
        "f": "nan",
    }
    assert leaves.plain("\ud83d\ude00 \ud800") == "😀 �"


def test_plain_is_bounded() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (endless, deep, list(range(10**6))):
        assert len(leaves.canonical({"x": leaves.plain(value)})) < 2_000_000


def test_a_leaf_holds_what_design_says() -> None:
    leaf = leaves.new_leaf(
        seq=3, prev="ab" * 32, session="s", run_id="0123456789abcdef", parent="", kind="cell", status="ok",
        started_at=datetime(2026, 11, 3, 12, 15, 2, 5, tzinfo=timezone(timedelta(hours=2))), seconds=1.2345678,
        user="u", host="h", fields={"execution_count": 7, "seq": 99}, digests={"source": "sha256:x"},
        redacted=("b", "a", "b"),
    )  # fmt: skip
    assert leaf == {
        "schema": "llmops.leaf/2", "hash": "sha-256", "seq": 3, "prev": "ab" * 32, "session": "s",
        "id": "0123456789abcdef", "parent": "", "kind": "cell", "status": "ok",
        "started_at": "2026-11-03T10:15:02.000005Z", "microseconds": 1234568, "user": "u", "host": "h",
        "execution_count": 7, "field.seq": 99, "digests": {"source": "sha256:x"}, "redacted": ["a", "b"],
    }  # fmt: skip
    assert datetime.fromisoformat(leaf["started_at"]).tzinfo == UTC


def test_digests_depend_on_salt_name_and_text() -> None:
    salt = leaves.new_salt()
    assert len(bytes.fromhex(salt)) == 16
    assert salt != leaves.new_salt()
    digests = {
        leaves.content_digest(salt, "source", "x"),
        leaves.content_digest(salt, "request", "x"),
        leaves.content_digest(salt, "source", "y"),
        leaves.content_digest("00" * 16, "source", "x"),
    }
    assert len(digests) == 4
    # A known answer, so that the format can't move unnoticed: sha256(salt, name, 0x00, text).
    assert leaves.content_digest("00" * 16, "source", "1 + 1") == (
        "sha256:" + hashlib.sha256(bytes(16) + b"source\x001 + 1").hexdigest()
    )


def test_a_sidecar_takes_any_text() -> None:
    text = "é 😀 \ud800 \x00 \n"
    data = leaves.sidecar_bytes("s", 1, "id", "00", {"source": text})
    assert json.loads(data)["content"]["source"] == text
    data.decode("ascii")
