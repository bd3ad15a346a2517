"""What somebody without the key plants in a cache's folder: links that lead out, pipes, nonsense numbers."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from jupyter_llmops.cache.eviction import Evictor
from jupyter_llmops.cache.flight import Flight
from jupyter_llmops.cache.holders import machine
from jupyter_llmops.cache.leases import HOLDERS, LEASES, Leases
from jupyter_llmops.cache.limits import LIMITS, read_limits
from jupyter_llmops.cache.usage import USAGE, UsageLog
from jupyter_llmops.records.cache import CacheLimits

PLACE = "v2-0123abcd"
ITEM = "ab" + "0" * 62
LOG = "c" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Files of somebody's own, older than anything that is tidied away."""
    home = tmp_path / "home"
    for name in ("thesis.tex", "project/data.csv", f"{HOLDERS}/list.txt", f"{LEASES}/one/contract.txt", LOG):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("dear")
    state = {"clocks": [], "used": {}, "read": {LOG: 100}}
    (home / "worth.json").write_text(json.dumps(state))
    for path in [*home.rglob("*"), home]:
        os.utime(path, (1, 1))
    return home


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def plant(cache: Path, where: str, target: Path) -> Path:
    """Put a link where a folder of the cache belongs, and an item that has to go."""
    place = cache / PLACE
    path = cache / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    os.utime(path, (1, 1), follow_symlinks=False)
    if where != PLACE:
        item = place / ITEM[:2] / f"{ITEM}.v2.item"
        item.parent.mkdir(parents=True)
        item.write_bytes(b"x" * 1000)
        os.utime(item, (1, 1))
    return place


@pytest.mark.parametrize(
    ("where", "target"),
    [
        (PLACE, "."),
        (f"{PLACE}/{LEASES}", "."),
        (f"{PLACE}/{HOLDERS}", "."),
        (f"{PLACE}/{USAGE}", "."),
        (f"{PLACE}/{LEASES}/{ITEM}", "project"),
    ],
)
def test_links_in_a_cache_cost_nobody_a_file_outside_of_it(
    where: str, target: str, home: Path, tmp_path: Path
):
    cache = tmp_path / "cache"
    before = contents(home)
    place = plant(cache, where, home / target)
    log = UsageLog(str(place))
    log.note(ITEM)
    log.flush()
    evictor = Evictor(cache)
    evictor.tidy()
    evictor.evict(CacheLimits(100))
    assert contents(home) == before


def test_a_second_name_of_a_file_in_place_of_a_log_or_a_sign_of_life_costs_nobody_the_file(tmp_path: Path):
    dear = tmp_path / "thesis.tex"
    dear.write_text("dear")
    place = tmp_path / "cache" / PLACE
    log, leases = UsageLog(str(place)), Leases(str(place), who="ada@lab")
    log.note(ITEM)
    log.flush()
    claim = leases.take(ITEM)
    for own in (place / USAGE / log._name, place / HOLDERS / leases._holder):
        own.unlink()
        own.hardlink_to(dear)
    log.note(ITEM)
    log.flush()
    leases._beat()
    assert dear.read_text() == "dear"
    assert "ada@lab" in (place / HOLDERS / leases._holder).read_text()
    log.note(ITEM)
    log.flush()
    assert (place / USAGE / log._name).read_text() == f"{ITEM} 1\n"
    assert claim is not None


@pytest.mark.parametrize(
    "state",
    [
        {"clocks": [], "used": {}, "read": {LOG: 10**30}},
        {"clocks": [], "used": {}, "read": {LOG: -5}},
        {"clocks": [], "used": {ITEM: [10**400, 0.0]}, "read": {}},
        {"clocks": [[0.0, float("inf")]], "used": {}, "read": {}},
        {"clocks": [[0.0, float("nan")]], "used": {}, "read": {}},
    ],
)
def test_nonsense_about_worth_does_not_stop_eviction(state: dict[str, object], tmp_path: Path):
    place = plant(tmp_path / "cache", f"{PLACE}/{LEASES}", tmp_path)
    (place / USAGE).mkdir()
    (place / USAGE / LOG).write_text(f"{ITEM} 3\n")
    (place / USAGE / "worth.json").write_text(json.dumps(state))
    assert Evictor(tmp_path / "cache").evict(CacheLimits(100)).items == 1
    kept = json.loads((place / USAGE / "worth.json").read_text())
    assert all(at >= 0 and 0 <= clock < 1e9 for at, clock in kept["clocks"])


def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path: Path):
    place = plant(tmp_path / "cache", f"{PLACE}/{LEASES}", tmp_path)
    (place / USAGE).mkdir()
    for path in (tmp_path / "cache" / LIMITS, place / USAGE / "worth.json", place / USAGE / LOG):
        os.mkfifo(path)

    def evict() -> None:
        default = CacheLimits(100)
        assert read_limits(tmp_path / "cache", default) == default
        Evictor(tmp_path / "cache").evict(default)

    thread = threading.Thread(target=evict, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("pid", [-1, 0, 10**30, 2**31])
def test_a_holder_with_an_impossible_process_stops_nobody(pid: int, tmp_path: Path):
    leases = Leases(str(tmp_path), stale_seconds=0.05)
    (tmp_path / LEASES / ITEM).mkdir(parents=True)
    (tmp_path / LEASES / ITEM / "planted-1").touch()
    (tmp_path / HOLDERS).mkdir()
    said = {"who": "mallory", "machine": machine(), "pid": pid, "born": 1.0}
    (tmp_path / HOLDERS / "planted").write_text(json.dumps(said))
    Flight(lambda: leases).turn(ITEM, lambda: False).release()


def test_ctrl_c_while_taking_a_lease_leaves_it_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    leases, rename = Leases(str(tmp_path)), os.rename

    def interrupted(*names: object, **folders: object) -> None:
        rename(*names, **folders)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        leases.take(ITEM)
    assert leases.holder(ITEM) is None
    assert not leases.holds_one()
