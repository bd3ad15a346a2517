from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.leases import Leases, new_holder


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def leases_of(catalog: Catalog, clock: Clock) -> Leases:
    """Return the leases as a process of its own has them."""
    other = Catalog(catalog.folder, site="lab", user="ada")
    return Leases(other._connection, other._migrations, "lab", clock)


def test_one_holds_it_until_it_releases_it(catalog: Catalog) -> None:
    clock = Clock()
    here, there = leases_of(catalog, clock), leases_of(catalog, clock)
    assert here.holder("upkeep") == ""
    assert here.acquire("upkeep", "a", 60)
    assert not there.acquire("upkeep", "b", 60)
    assert there.acquire("other", "b", 60)
    assert there.holder("upkeep") == "a"
    there.release("upkeep", "b")
    assert not there.acquire("upkeep", "b", 60)
    here.release("upkeep", "a")
    assert there.holder("upkeep") == ""
    assert there.acquire("upkeep", "b", 60)
    assert not here.acquire("upkeep", "a", 60)
    assert not here.renew("upkeep", "a", 60)


def test_a_killed_holder_loses_it_when_it_expires(catalog: Catalog) -> None:
    clock = Clock()
    killed, other = leases_of(catalog, clock), leases_of(catalog, clock)
    assert killed.acquire("upkeep", "killed", 60)
    clock.go(59)
    assert not other.acquire("upkeep", "other", 60)
    clock.go(1)
    assert other.acquire("upkeep", "other", 60)
    # It was only asleep: it can't go on with what another does now.
    assert not killed.renew("upkeep", "killed", 60)
    killed.release("upkeep", "killed")
    assert other.holder("upkeep") == "other"


def test_a_holder_that_renews_keeps_it(catalog: Catalog) -> None:
    clock = Clock()
    here, there = leases_of(catalog, clock), leases_of(catalog, clock)
    assert here.acquire("upkeep", "a", 60)
    for _ in range(3):
        clock.go(50)
        assert here.renew("upkeep", "a", 60)
        assert not there.acquire("upkeep", "b", 60)


def test_being_refused_commits_nothing(catalog: Catalog) -> None:
    clock = Clock()
    here, there = leases_of(catalog, clock), leases_of(catalog, clock)
    assert here.acquire("upkeep", "a", 60)
    before = catalog.marks()
    for _ in range(3):
        assert not there.acquire("upkeep", "b", 60)
    assert catalog.marks() == before


@pytest.mark.parametrize("state", ["never taken", "expired"])
def test_of_many_that_want_it_at_once_one_gets_it(catalog: Catalog, state: str) -> None:
    clock = Clock()
    contenders = [(leases_of(catalog, clock), f"holder {number}") for number in range(6)]
    catalog.migrate()
    if state == "expired":
        assert contenders[0][0].acquire("upkeep", "gone", 1)
        clock.go(2)
    gate = threading.Barrier(len(contenders))
    got: list[str] = []

    def contend(leases: Leases, holder: str) -> None:
        leases.holder("upkeep")
        gate.wait(30)
        if leases.acquire("upkeep", holder, 60):
            got.append(holder)

    threads = [threading.Thread(target=contend, args=pair) for pair in contenders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 1
    assert contenders[0][0].holder("upkeep") == got[0]


def test_no_two_processes_have_the_same_name() -> None:
    assert len({new_holder() for _ in range(100)}) == 100
