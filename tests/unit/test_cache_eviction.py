"""What goes when a cache is too large or too old, and that nothing else does."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from traitlets import TraitError

from jupyter_llmops.agent.process import run_agent
from jupyter_llmops.cache.eviction import Evictor
from jupyter_llmops.cache.item_format import encode_item
from jupyter_llmops.cache.leases import Leases
from jupyter_llmops.cache.limits import LIMITS, limits_of, read_limits, write_limits
from jupyter_llmops.cache.upkeep import SECONDS_BETWEEN_LOOKS, UPKEEP, CacheUpkeep
from jupyter_llmops.cache.usage import USAGE, UsageLog
from jupyter_llmops.errors import SettingsError
from jupyter_llmops.records.cache import CacheLimits
from jupyter_llmops.settings import LLMOps, parse_age, parse_size

PLACE = "v2-0123abcd"
HOUR = 3600.0


def item_id(number: int) -> str:
    return f"{number * 7 % 256:02x}{number:062x}"


def put(folder: Path, number: int, *, seconds: float = 1.0, size: int = 1000, age: float = HOUR) -> Path:
    """Store an item as a process with some key would have done it."""
    name = item_id(number)
    path = folder / PLACE / name[:2] / f"{name}.v2.item"
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = len(encode_item(b"k" * 32, name, b"", seconds))
    path.write_bytes(encode_item(b"k" * 32, name, b"x" * (size - empty), seconds))
    os.utime(path, (time.time() - age,) * 2)
    return path


def left(paths: list[Path]) -> list[int]:
    return [number for number, path in enumerate(paths) if path.exists()]


def test_within_its_limits_nothing_goes(tmp_path: Path):
    paths = [put(tmp_path, number) for number in range(10)]
    assert Evictor(tmp_path).evict(CacheLimits(10_000, 2 * HOUR)).items == 0
    assert left(paths) == list(range(10))


def test_what_is_cheap_to_compute_again_goes_first(tmp_path: Path):
    paths = [put(tmp_path, number, seconds=0.1 if number % 2 else 5.0) for number in range(10)]
    evicted = Evictor(tmp_path).evict(CacheLimits(7_000))
    assert (evicted.items, evicted.size_bytes) == (4, 4_000)  # to 90 % of the limit
    assert all(number % 2 for number in set(range(10)) - set(left(paths)))


def test_what_is_large_goes_before_what_is_small(tmp_path: Path):
    paths = [put(tmp_path, number, size=5000 if number == 3 else 1000) for number in range(10)]
    Evictor(tmp_path).evict(CacheLimits(10_000))
    assert 3 not in left(paths)
    assert len(left(paths)) == 9


def test_what_is_used_stays(tmp_path: Path):
    paths = [put(tmp_path, number) for number in range(10)]
    log = UsageLog(str(tmp_path / PLACE))
    for number in (2, 5):
        log.note(item_id(number))
    log.flush()
    Evictor(tmp_path).evict(CacheLimits(2_300))
    assert left(paths) == [2, 5]


def test_what_was_dear_but_is_not_asked_for_any_more_goes_in_the_end(tmp_path: Path):
    dear, evictor = put(tmp_path, 0, seconds=3.0), Evictor(tmp_path)
    for day in range(1, 40):
        evictor._now = lambda day=day: time.time() + day * 24 * HOUR  # type: ignore[method-assign]
        for number in range(5):
            put(tmp_path, 100 * day + number, age=HOUR - day * 24 * HOUR)
        evictor.evict(CacheLimits(4_000))
        if not dear.exists():
            break
    assert 1 < day < 39


def test_nothing_is_written_down_for_ever_of_what_is_gone(tmp_path: Path):
    paths = [put(tmp_path, number) for number in range(4)]
    log = UsageLog(str(tmp_path / PLACE))
    for number in range(4):
        log.note(item_id(number))
    log.flush()
    evictor = Evictor(tmp_path)
    evictor.tidy()
    assert set(used(tmp_path)) == set(map(item_id, range(4)))
    paths[2].unlink()  # by %cache clear, a mark, anything
    evictor.tidy()
    assert used(tmp_path) == {item_id(number): [1, 0.0] for number in (0, 1, 3)}, "and no hit counts twice"
    evictor.evict(CacheLimits(2_300))
    assert set(used(tmp_path)) == {item_id(number) for number in left(paths)} != set()


def used(folder: Path) -> dict[str, object]:
    return json.loads((folder / PLACE / USAGE / "worth.json").read_text())["used"]


def test_ages_are_those_of_the_file_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [put(tmp_path, number, age=HOUR * number) for number in range(6)]
    monkeypatch.setattr(time, "time", lambda: 0.0)
    evicted = Evictor(tmp_path).evict(CacheLimits(None, 2.5 * HOUR))
    assert evicted.items == 3
    assert left(paths) == [0, 1, 2]
    assert Evictor(tmp_path).clear_older(0.5 * HOUR).items == 2


def test_what_is_claimed_or_just_came_stays(tmp_path: Path):
    paths = [put(tmp_path, number, age=0.0 if number == 4 else HOUR) for number in range(6)]
    claim = Leases(str(tmp_path / PLACE)).take(item_id(1))
    assert claim is not None
    assert Evictor(tmp_path).evict(CacheLimits(0)).items == 4
    assert left(paths) == [1, 4]
    claim.release()


def test_a_reader_keeps_what_it_opened(tmp_path: Path):
    path = put(tmp_path, 1)
    with path.open("rb") as file:
        Evictor(tmp_path).evict(CacheLimits(0))
        assert not path.exists()
        assert len(file.read()) == 1000


def test_what_was_replaced_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = put(tmp_path, 1)
    evictor = Evictor(tmp_path)
    remove = evictor._remove

    def late(items: list[object]) -> object:
        put(tmp_path, 1, age=0.5 * HOUR)
        return remove(items)  # type: ignore[arg-type]

    monkeypatch.setattr(evictor, "_remove", late)
    assert evictor.evict(CacheLimits(0)).items == 0
    assert path.exists()


def test_other_files_and_links_stay(tmp_path: Path):
    path = put(tmp_path, 1)
    kept = [path.with_name("notes.txt"), path.with_name(item_id(1) + ".v2.wrong"), tmp_path / "outside"]
    for other in kept:
        other.write_text("x")
    (tmp_path / PLACE / "ff").symlink_to(tmp_path / "elsewhere")
    elsewhere = put(tmp_path / "elsewhere" / "x", 2)
    (tmp_path / "elsewhere" / elsewhere.name).write_text("x")
    Evictor(tmp_path).evict(CacheLimits(0, 0.0))
    assert not path.exists()
    assert all(other.exists() for other in [*kept, elsewhere, tmp_path / "elsewhere" / elsewhere.name])


@pytest.mark.parametrize(
    "planted", ["[]", "{", '{"clocks": [["x", 1]], "used": {}, "read": {}}', "[" * 100_000]
)
def test_planted_worth_and_usage_are_ignored(planted: str, tmp_path: Path):
    paths = [put(tmp_path, number, seconds=number) for number in range(4)]
    folder = tmp_path / PLACE / USAGE
    folder.mkdir()
    (folder / "worth.json").write_text(planted)
    (folder / ("ab" * 16)).write_bytes(b"nonsense\n" + b"\xff" * 100)
    (folder / ("cd" * 16)).symlink_to("/dev/zero")
    os.mkfifo(folder / ("ef" * 16))
    Evictor(tmp_path).evict(CacheLimits(2_300))
    assert left(paths) == [2, 3]


def test_hits_are_counted_once_and_by_all_processes(tmp_path: Path):
    paths = [put(tmp_path, number) for number in range(4)]
    for number in (1, 1, 3):
        log = UsageLog(str(tmp_path / PLACE))
        log.note(item_id(number))
        log.flush()
    Evictor(tmp_path).evict(CacheLimits(3_000))
    before = (tmp_path / PLACE / USAGE / "worth.json").read_text()
    put(tmp_path, 9)
    Evictor(tmp_path).evict(CacheLimits(2_300))
    assert left(paths) == [1, 3]
    assert f'"{item_id(1)}": [2, ' in before


def test_one_of_all_hosts_does_it(tmp_path: Path):
    paths = [put(tmp_path, number) for number in range(4)]
    claim = Leases(str(tmp_path)).take(UPKEEP)
    assert claim is not None
    clock = [0.0]
    upkeep = CacheUpkeep(tmp_path, CacheLimits(1_200))
    assert upkeep.look(lambda: clock[0]).items == 0
    assert len(left(paths)) == 4
    claim.release()
    assert upkeep.look(lambda: clock[0]).items == 0  # not yet again
    clock[0] += SECONDS_BETWEEN_LOOKS
    assert upkeep.look(lambda: clock[0]).items == 3


def test_upkeep_looks_again_only_when_something_came_or_the_limits_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put(tmp_path, 1)
    clock, scans = [0.0], 0
    upkeep = CacheUpkeep(tmp_path, CacheLimits(10_000))
    evict = Evictor.evict

    def counted(self: Evictor, limits: CacheLimits) -> object:
        nonlocal scans
        scans += 1
        return evict(self, limits)

    monkeypatch.setattr(Evictor, "evict", counted)

    def look() -> int:
        clock[0] += SECONDS_BETWEEN_LOOKS
        upkeep.look(lambda: clock[0])
        return scans

    assert [look(), look(), look()] == [1, 1, 1]
    put(tmp_path, 2)
    assert [look(), look()] == [2, 2]
    write_limits(tmp_path, CacheLimits(1_200))
    assert look() == 3


def test_no_folder_and_no_right_to_write_are_no_problem(tmp_path: Path):
    assert CacheUpkeep(tmp_path / "absent", CacheLimits(0)).look().items == 0
    (tmp_path / "file").write_text("x")
    assert Evictor(tmp_path / "file").evict(CacheLimits(0)).items == 0


def test_killed_processes_leftovers_go_after_a_day(tmp_path: Path):
    leases = Leases(str(tmp_path / PLACE))
    put(tmp_path, 1)
    old, new = leases.take(item_id(1)), leases.take(item_id(2))
    assert old is not None
    assert new is not None
    lease = tmp_path / PLACE / "leases" / item_id(1)
    os.utime(lease, (time.time() - 48 * HOUR,) * 2)
    Evictor(tmp_path).tidy()
    assert leases.held() == {item_id(2)}


def test_limits_of_a_folder_hold_for_everyone(tmp_path: Path):
    default = limits_of("5GB", "off")
    assert read_limits(tmp_path, default) == CacheLimits(5_000_000_000, None)
    write_limits(tmp_path, limits_of("1.5 MiB", "30d"))
    assert read_limits(tmp_path, default) == CacheLimits(1_572_864, 30 * 86_400.0)
    for nonsense in (
        "",
        "[]",
        '{"format": "llmops-cache-limits/1", "size_bytes": -1, "age_seconds": null}',
        "[" * 3000,
    ):
        (tmp_path / LIMITS).write_text(nonsense)
        assert read_limits(tmp_path, default) == default
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="can't be written"):
        write_limits(tmp_path / "file", default)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5_000_000_000),
        ("500 mb", 500_000_000),
        ("2GiB", 2**31),
        ("1k", 1000),
        ("0b", 0),
        ("off", None),
    ],
)
def test_sizes(text: str, size: int | None):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "age"), [("30d", 2_592_000.0), ("12 h", 43_200.0), ("1 week", 604_800.0), ("off", None)]
)
def test_ages(text: str, age: float | None):
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["5", "GB", "-1GB", "5XB", "1e9", "5 GB 3", "nan", "٥GB", "5ib"])
def test_what_is_no_size_is_said(text: str):
    with pytest.raises(SettingsError, match="is no size"):
        parse_size(text)
    with pytest.raises(TraitError, match="5GB, 500MB or off"):
        LLMOps(cache_limit=text)


def test_an_eviction_that_somebody_claims_for_ever_is_done_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = [put(tmp_path, number) for number in range(4)]
    claim = Leases(str(tmp_path)).take(UPKEEP)
    upkeep = CacheUpkeep(tmp_path, CacheLimits(1_200))
    assert upkeep.look().items == 0
    monkeypatch.setattr("jupyter_llmops.cache.upkeep._LONGEST_UPKEEP", 0.0)
    assert upkeep.look(lambda: time.monotonic() + SECONDS_BETWEEN_LOOKS + 1).items == 3
    assert len(left(paths)) == 1
    assert claim is not None


def test_counting_a_hit_keeps_nobody_waiting_for_the_disk(tmp_path: Path):
    log = UsageLog(str(tmp_path / "absent" / "for" / "ever"))
    threads = [threading.Thread(target=lambda: [log.note(item_id(n)) for n in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log._noted.count(item_id(5)) == 4
    assert not (tmp_path / "absent").exists()


def test_the_agent_keeps_the_cache_of_its_catalog_within_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    paths = [put(tmp_path / "catalog" / "cache", number) for number in range(4)]
    run_agent(
        tmp_path / "catalog", tmp_path / "audit", site="lab", idle_seconds=0.0, cache_limits=("1200b", "off")
    )
    assert len(left(paths)) == 1
