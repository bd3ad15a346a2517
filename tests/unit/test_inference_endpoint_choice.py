"""What decides who is asked: addresses, pools, sites, limits and rests; no server needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llmops.errors import EndpointError, UnknownNameError, UsageError
from jupyter_llmops.inference.endpoints.address import address_of
from jupyter_llmops.inference.endpoints.dispatch import share_slots
from jupyter_llmops.inference.endpoints.engine import EndpointEngine
from jupyter_llmops.inference.endpoints.failures import Failure, clean, seconds_to_wait
from jupyter_llmops.inference.endpoints.gate import Gate, Window, backoff
from jupyter_llmops.inference.endpoints.policy import EndpointOptions, EndpointPolicy
from jupyter_llmops.inference.endpoints.pool import is_pool, parse_pool, pool_of
from jupyter_llmops.inference.sites import placed_model
from jupyter_llmops.records.model import Model


def endpoint(name: str, base: str, served: str = "gpt-oss", **more: Any) -> Model:
    return Model(name=name, kind="llm", source=f"endpoint:{base}#{served}", format="endpoint", **more)


A = endpoint("a", "https://one.example/v1", site="lab")
B = endpoint("b", "https://two.example/v1", site="two.example", context_length=4096)
HOME = endpoint("home", "http://127.0.0.1:8000/v1", "HuggingFaceTB/SmolLM2", site="elsewhere")
LOCAL = Model(name="tiny", kind="llm", source="folder:/models/tiny", site="here")
ROWS = (A, B, HOME, LOCAL)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://ann:pw@host/v1#m", "holds a user or a query"),
        ("https://host/v1?key=pw#m", "holds a user or a query"),
        ("https://host/v1", "can't be read"),
        ("https://h:x/v1#m", "can't be read"),
        ("ftp://host/v1#m", "can't be read"),
        ("http://gpu.example/v1#m", r"not encrypted .*http_endpoints = \['gpu.example'\]"),
        ("http://127.0.0.1.example/v1#m", "not encrypted"),
        ("http://10.0.0.5/v1#m", "not encrypted"),
    ],
)
def test_an_address_that_can_not_be_used_is_one_sentence(source: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        address_of(Model("gpt", "llm", f"endpoint:{source}"))
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "[::1]:8000", "a.localhost"])
def test_this_machine_needs_no_encryption(host: str) -> None:
    assert address_of(endpoint("x", f"http://{host}/v1/", "o/n")).base == f"http://{host}/v1"


def test_an_allowed_host_needs_no_encryption() -> None:
    address = address_of(endpoint("x", "http://GPU.lan/v1"), ["gpu.lan"])
    assert (address.host, str(address)) == ("gpu.lan", "http://GPU.lan/v1#gpt-oss")


def test_a_pool_is_names_with_weights() -> None:
    assert parse_pool(" a = 3 , b") == [("a", 3.0), ("b", 1.0)]
    assert (is_pool("a,b"), is_pool("a=2"), is_pool("a")) == (True, True, False)
    for bad in ("a=0", "a=-1", "a=x", "a=", "a,,b", ",", "=3", "a,a", "a=nan", "a=inf", "a=1=2"):
        with pytest.raises(UsageError):
            parse_pool(bad)


def test_a_pool_is_one_model_and_any_of_its_endpoints_may_have_answered() -> None:
    rows = {row.name: row for row in ROWS}
    pool = pool_of("a=3,b", rows.__getitem__)
    assert (pool.name, pool.context_length, [m.weight for m in pool.pool]) == ("a=3,b", None, [3.0, 1.0])
    assert pool_of("a=3", rows.__getitem__) == A
    engine = EndpointEngine()
    options = dict(engine.identify(pool, "auto").options)
    assert options == {
        "served_name": "gpt-oss", "url1": "https://one.example/v1", "url2": "https://two.example/v1",
    }  # fmt: skip
    other = pool_of("b,a", rows.__getitem__)
    assert dict(engine.identify(other, "auto").options) == options  # weights and order decide no answer
    with pytest.raises(UsageError, match="not served by an endpoint"):
        pool_of("a,tiny", rows.__getitem__)


def place(model: str = "tiny", backend: str = "", site: str = "") -> str:
    return placed_model(model, backend=backend, site=site, registered=ROWS, here="here")


def test_backends_that_are_endpoints_take_the_place_of_the_model() -> None:
    assert place(backend="a=3,b") == "a=3,b"
    assert place(backend="a") == "a"
    for local in ("", "kernel", "loky:2", "dask:tcp://h:1"):
        assert place(backend=local) == "tiny"
    with pytest.raises(UsageError, match=r"no backend and no endpoint named 'dusk'.*a, b, home"):
        place(backend="dusk")
    with pytest.raises(UsageError, match="no endpoint named 'tiny'"):
        place(backend="a,tiny")


def test_a_site_leaves_only_its_engines() -> None:
    assert place(site="here") == "tiny"
    assert place("home", site="HERE") == "home"  # 127.0.0.1 is always this machine
    assert place("a", site="lab") == place("a", site="one.example") == "a"
    assert place(backend="a=3,b", site="LAB") == "a=3"
    assert place("openai/gpt-oss", site="lab") == "a"  # the same model, served there
    assert place("a", site="two.example") == "b"
    with pytest.raises(UsageError, match=r"no site 'mars'.*here \(home\), lab \(a\) and two.example \(b\)"):
        place(site="mars")
    with pytest.raises(UsageError, match="Nothing at the site 'lab' answers for 'tiny'"):
        place(site="lab")
    with pytest.raises(UsageError, match="Nothing at the site 'here' answers for 'a'"):
        place("a", site="here")
    with pytest.raises(UsageError, match=r"no site 'mars'. The only site is here \(this machine\)\.$"):
        placed_model("tiny", backend="", site="mars", registered=(LOCAL,), here="here")
    with pytest.raises(UsageError, match="can't be chosen by site"):
        place(backend="dask", site="lab")


def test_retry_after_is_read_as_it_is_written() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert seconds_to_wait({}) is None
    assert seconds_to_wait({"retry-after": "3"}) == 3
    assert seconds_to_wait({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert 28 <= (seconds_to_wait({"retry-after": soon}) or 0) <= 31
    assert seconds_to_wait({"retry-after": soon, "date": soon}) == 0
    for odd in ("-3", "nan", "inf", "soon", "", "1e99", "Thu, 99 Foo 2026"):
        assert seconds_to_wait({"retry-after": odd}) is None


@given(st.text(), st.text(alphabet="abc123-_", min_size=8))
def test_no_key_survives_what_an_endpoint_says(said: str, key: str) -> None:
    line = clean(f"{said} {key} {said} sk-{key}", key)
    assert key not in line
    assert "\n" not in line
    assert len(line) <= 200


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=60), st.integers(1, 10))
def test_no_minute_has_more_than_its_limit(pauses: list[float], limit: int) -> None:
    clock = Clock()
    window, passed = Window(limit, clock), list[float]()
    for pause in pauses:
        clock.now += pause
        clock.now += window.delay(1)
        if not window.delay(1):
            window.note(1)
            passed.append(clock.now)
    for start in passed:
        assert sum(start <= at < start + 60 for at in passed) <= limit
    assert passed


def test_tokens_a_minute_are_corrected_to_what_they_were() -> None:
    clock = Clock()
    gate = Gate(EndpointPolicy(tokens_per_minute=100), clock)
    entry = gate.enter(90)
    assert gate.delay(20) > 59
    gate.leave(entry, 30)
    assert gate.delay(20) == 0
    assert gate.delay(5000) > 0  # more than a minute's worth waits for a whole minute, and then goes
    clock.now += 61
    assert gate.delay(5000) == 0


def test_an_endpoint_rests_as_long_as_it_asked_and_a_little_more() -> None:
    clock = Clock()
    gate = Gate(EndpointPolicy(), clock)
    gate.rest_as_asked(Failure(EndpointError("x"), "passing", 30.0))
    gate.rest_as_asked(Failure(EndpointError("x"), "passing", 1.0))  # an older answer that came late
    assert 30 <= gate.delay(1) <= 33.1
    assert gate.rest == 30
    assert gate.rests_for is not None
    clock.now += 34
    assert (gate.delay(1), gate.rests_for) == (0, None)
    gate.rest_as_asked(Failure(EndpointError("x"), "passing", 1e6))
    assert gate.delay(1) < 700


def test_backoff_grows_at_random_and_has_an_end() -> None:
    assert all(0.05 <= backoff(1) <= 0.5 for _ in range(100))
    assert max(backoff(30) for _ in range(100)) <= 20
    assert len({backoff(5) for _ in range(20)}) > 10


def test_slots_follow_the_weights_unless_limited() -> None:
    assert share_slots([1], [None]) == [8]
    assert share_slots([3, 1], [None, None]) == [12, 4]
    assert share_slots([1000, 1], [None, 2]) == [16, 2]


def test_limits_are_found_by_name_then_by_host() -> None:
    options = EndpointOptions({"gpt": {"concurrency": 2}, "host": {"timeout": 5}})
    assert options.policy("gpt", "host") == EndpointPolicy(concurrency=2)
    assert options.policy("other", "host") == EndpointPolicy(timeout=5)
    assert options.policy("other", "else") == EndpointPolicy()


def test_an_unknown_member_is_named() -> None:
    def resolve(name: str) -> Model:
        raise UnknownNameError("model", name, ["a"])

    with pytest.raises(UnknownNameError, match="'zzz'"):
        pool_of("zzz,b", resolve)


def test_an_adapter_or_an_encoder_is_refused() -> None:
    engine = EndpointEngine()
    with pytest.raises(UsageError, match="No adapter"):
        engine.identify(replace(A, adapter=LOCAL), "auto")
    with pytest.raises(UsageError, match="of the kind 'encoder'"):
        engine.identify(replace(A, kind="encoder"), "auto")
