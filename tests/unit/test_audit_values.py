"""Digests of plain values: equal for equal values in every process, never by a value's own code."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from jupyter_llmops.audit.values import digest_value, digest_values, random_states
from jupyter_llmops.guard.redaction import Redactor

SALT = "5a" * 16
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001 - a naive moment is meant
VALUES = (
    "{'none': None, 'flag': True, 'n': 7, 'x': 1.5, 'z': 2j, 's': 'text', 'odd': '\\ud800', 'b': b'raw',"
    "'ba': bytearray(b'raw'), 'l': [1, [2, (3,)]], 'd': {'a': {'b': [None]}}, 'set': {'x', 'y', ('z', 1)},"
    "'fs': frozenset(map(str, range(50))), 'r': range(3), 'when': __import__('datetime').date(2026, 1, 2),"
    "'dec': __import__('decimal').Decimal('1.10'), 'f': eval('lambda q: q + 1')}"
)


def one(value: object, **options: object) -> str:
    # A cell's 2 ms are less than a busy machine may leave a process waiting.
    return digest_values(["v"], {"v": value}, SALT, **{"budget_seconds": 1.0, **options})["v"]  # type: ignore[arg-type]


def test_the_same_values_have_the_same_digests_in_another_process() -> None:
    here = digest_values(list(eval(VALUES)), eval(VALUES), SALT, 1.0)
    code = (
        "import json; from jupyter_llmops.audit.values import digest_values; "
        f"v = {VALUES}; print(json.dumps(digest_values(list(v), v, {SALT!r}, 1.0)))"
    )
    environment = dict(os.environ, PYTHONHASHSEED="7")
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert eval(there.stdout) == here
    assert all(said.startswith("sha256:") for said in here.values())
    assert len(set(here.values())) == len(here)


def test_another_salt_gives_another_digest() -> None:
    assert one(1) != digest_values(["v"], {"v": 1}, "00" * 16)["v"]


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), ("1", 1), ("a", b"a"), ([1], (1,)), ([[1], 2], [[1, 2]]),
        (["ab", "c"], ["a", "bc"]), ({1}, frozenset({1})), ({"a": 1}, {"a": 2}), ([], [[]]), (None, ()),
        (Decimal("1.1"), Decimal("1.10")), (date(2026, 1, 1), NAIVE),
        (NAIVE, datetime(2026, 1, 1, tzinfo=UTC)), (2**70, 2**70 + 1),
        (list(range(5000)), [*range(4999), 4998]),
    ],
)  # fmt: skip
def test_what_differs_has_another_digest(value: object, other: object) -> None:
    assert one(value, budget_seconds=1.0) != one(other, budget_seconds=1.0)
    assert one(value, budget_seconds=1.0).startswith("sha256:")
    assert one(other, budget_seconds=1.0).startswith("sha256:")


def test_what_is_changed_in_place_has_another_digest() -> None:
    rows = [{"id": 1, "tags": ["a"]}]
    before = one(rows)
    rows[0]["tags"].append("b")  # type: ignore[attr-defined]
    after = one(rows)
    rows[0]["tags"].pop()  # type: ignore[attr-defined]
    assert before != after
    assert one(rows) == before


def test_values_that_hold_themselves_end() -> None:
    ring: list[object] = [1]
    ring.append(ring)
    wide: list[object] = []
    for _ in range(80):
        wide = [wide, wide]  # 2**80 ways through it
    assert one(ring).startswith("sha256:")
    assert one(wide, budget_seconds=5.0) == "skipped: more than 24 levels deep"


def test_rows_count_by_value_however_they_are_held() -> None:
    rows = [{"id": n, "tags": ["a", "b"], "at": (n, None)} for n in range(300)]
    name = str(b"id", "ascii")  # another text of the same value
    again = [{name: n, "tags": ["a", "b"], "at": (n, None)} for n in range(300)]
    shared = ["a", "b"]
    third = [{"id": n, "tags": shared, "at": (n, None)} for n in range(300)]
    assert one(rows, budget_seconds=5.0) == one(again, budget_seconds=5.0) == one(third, budget_seconds=5.0)
    third[299] = {"id": 299, "tags": ("a", "b"), "at": (299, None)}
    assert one(rows, budget_seconds=5.0) != one(third, budget_seconds=5.0)


def test_a_function_is_told_by_what_it_does() -> None:
    space: dict[str, object] = {}
    exec("def f(a, b=1):\n    return a + b", space)
    first = one(space["f"])
    exec("# moved\n\n\ndef f(a, b=1):\n    return a + b", space)
    assert one(space["f"]) == first
    exec("def f(a, b=2):\n    return a + b", space)
    assert one(space["f"]) != first


class _Hostile:
    """Every way to call its code ends the test."""

    def _never(self, *_: object, **__: object) -> None:
        pytest.fail("its code was called")

    __eq__ = __hash__ = __repr__ = __str__ = __len__ = __iter__ = __reduce__ = __reduce_ex__ = _never  # type: ignore[assignment]
    __bool__ = __getattr__ = __getattribute__ = __sizeof__ = __array__ = __index__ = __buffer__ = _never  # type: ignore[assignment]
    __class__ = property(_never)  # type: ignore[assignment]
    __dict__ = property(_never)  # type: ignore[assignment]


ARMED: list[bool] = []


class _HostileMeta(type):
    def _never(cls, *_: object) -> None:
        if ARMED:  # pytest looks at what it collects
            pytest.fail("its metaclass was called")

    __eq__ = __hash__ = __repr__ = __instancecheck__ = __subclasscheck__ = __getattr__ = _never  # type: ignore[assignment]
    __name__ = property(_never)  # type: ignore[assignment]
    __module__ = property(_never)  # type: ignore[assignment]


class _HostileClass(metaclass=_HostileMeta):
    pass


def _subclass(base: type) -> object:
    names = ["__eq__", "__hash__", "__repr__", "__len__", "__iter__", "__reduce_ex__", "__getattribute__"]
    return type("Mine", (base,), dict.fromkeys(names, _Hostile._never))()


NASTY = {
    "hostile": _Hostile,
    "hostile class": _HostileClass,
    "the class itself": lambda: _HostileClass,
    "generator": lambda: (n for n in iter(int, 1)),
    "endless": lambda: iter(int, 1),
    "lock": lambda: __import__("threading").Lock(),
    "file": lambda: sys.stderr,
    "method": lambda: [].append,
    **{
        f"a {base.__name__}": (lambda base=base: _subclass(base))
        for base in (list, dict, str, int, set, bytes)
    },
}


@pytest.mark.parametrize("make", NASTY.values(), ids=NASTY)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, (v,)], lambda v: {"k": v}], ids="vld")
def test_a_values_own_code_is_never_called(make, wrap) -> None:
    value = wrap(make())
    ARMED.append(True)
    try:
        said = one(value)
    finally:
        ARMED.clear()
    assert said.startswith("skipped: ")


def test_sockets_are_named() -> None:
    with socket.socket() as open_socket:
        assert one(open_socket) == "skipped: type socket.socket"


def test_what_is_too_large_is_not_begun_and_does_not_starve_the_rest() -> None:
    space = {"long": b"x" * 80_000_000, "list": [None] * 3_000_000, "small": 1}
    assert digest_values(space, space, SALT) == {
        "long": "skipped: 80 MB, more than 64 MB",
        "list": "skipped: 3,000,000 items, too many to read within 2 ms",
        "small": one(1),
    }


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**31, -(2**70), 2**999, 1 << 1001, 0.0, -0.0, float("nan"), float("inf"), 1.5, "", "a",
        "ü" * 999, "\ud800", "x" * 1001, 1j, b"ab",
    ],
)  # fmt: skip
def test_short_values_have_the_digest_that_a_writer_gives_them(value: object) -> None:
    assert digest_values(["v"], {"v": value}, SALT, 5.0)["v"] == digest_value(value, SALT)


def test_without_time_nothing_is_read() -> None:
    assert one("text", budget_seconds=0.0) == "skipped: not read within 0 ms"


def test_a_secret_has_no_digest() -> None:
    def redact(text: str) -> tuple[str, tuple[str, ...]]:
        return ("", ("password",)) if "hunter2" in text else (text, ())

    space = {"password": "hunter2", "name": "Ada"}
    found = digest_values(space, space, SALT, 5.0, redact=redact)
    assert found == {"password": "skipped: it looks like a secret", "name": one("Ada")}


def test_a_secret_in_the_name_of_a_class_is_in_no_reason() -> None:
    token = f"ghp_{'Tk3n' * 9}"
    space = {
        "value": type(token, (), {"__slots__": ("_",)})(),
        "plain": type("Plain", (), {"__slots__": ("_",)})(),
    }
    found = digest_values(space, space, SALT, 5.0, redact=Redactor({}).redact)
    assert found["value"].startswith("skipped: type ")
    assert token not in found["value"]
    assert found["plain"].endswith(".Plain"), "an ordinary name stays"


def test_numbers_and_containers_under_a_secret_name_have_no_digest() -> None:
    redactor = Redactor({})
    secrets = {
        "password": 12345678, "db_passwords": ["swordfish"], "tokens": ["q7ZkPro8eVx2mLw9"],
        "config": {"host": "lab", "api_key": 4711}, "credentials": {"user": "ada"}, "pin_secret": 47.11,
    }  # fmt: skip
    ordinary = {
        "max_tokens": 512, "keys": ["name", "size"], "count": 12345678, "config": {"key": 3, "password": None},
        "password": None, "patience": 3, "signal": [1.0, 2.0], "has_password": True,
    }  # fmt: skip
    assert set(digest_values(secrets, secrets, SALT, 5.0, redact=redactor.redact).values()) == {
        "skipped: secret name"
    }
    found = digest_values(ordinary, ordinary, SALT, 5.0, redact=redactor.redact)
    assert {name for name, said in found.items() if not said.startswith("sha256:")} == set()
    assert redactor.redact("a swordfish under no name").found == (), "what it was asked taught it nothing"


def test_searching_for_secrets_takes_no_longer_than_reading_values() -> None:
    searched = []

    def slow(text: str) -> tuple[str, tuple[str, ...]]:
        searched.append(text)
        time.sleep(0.001)
        return text, ()

    values = {f"tokens_{n}": ["a", "b", "c", "d"] for n in range(60)}
    said = digest_values(values, values, SALT, 0.005, redact=slow)
    assert len(searched) < 20
    assert set(said) == set(values)
    assert said["tokens_59"] == "skipped: not read within 5 ms"


def test_names_that_are_not_there_are_left_out() -> None:
    assert digest_values(["a", "b"], {"b": 1}, SALT) == {"b": one(1)}


def test_every_draw_gives_another_state() -> None:
    kept = random.getstate()
    try:
        random.seed(7)
        first = random_states()["python"]
        assert random_states()["python"] == first
        random.random()
        second = random_states()["python"]
        random.gauss(0, 1)  # keeps a second number for the next call
        third = random_states()["python"]
        random.setstate((*random.getstate()[:2], None))
        fourth = random_states()["python"]
        random.setstate((*random.getstate()[:2], 0.5))
        assert len({first, second, third, fourth, random_states()["python"]}) == 5
    finally:
        random.setstate(kept)


def test_a_seed_gives_the_same_state_of_the_random_generator() -> None:
    import random

    random.seed(5)
    first = random_states()["python"]
    random.random()
    assert random_states()["python"] != first
    random.seed(5)
    assert random_states()["python"] == first
    assert digest_value(random.Random(5)) == digest_value(random.Random(5)) != digest_value(random.Random(6))
