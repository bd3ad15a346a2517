"""Leases in a folder: one holder at a time, also when holders vanish, freeze or come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_llmops.cache import leases as module
from jupyter_llmops.cache import watch as watching
from jupyter_llmops.cache.flight import Flight
from jupyter_llmops.cache.leases import HOLDERS, LEASES, Claim, Leases
from jupyter_llmops.cache.warning import CacheWarning
from jupyter_llmops.cache.watch import Watch

ITEM = "ab" * 32


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def holds(claim: Claim | None) -> bool:
    """Return whether a claim keeps others away."""
    return claim is not None and claim.name != ""


@pytest.fixture
def ada(tmp_path: Path) -> Leases:
    return Leases(str(tmp_path), who="ada@lab", beat_seconds=0.02, stale_seconds=30)


@pytest.fixture
def bob(tmp_path: Path) -> Leases:
    """Return another process's leases, as far as the folder can tell; it soon loses patience."""
    return Leases(str(tmp_path), who="bob@lab", beat_seconds=0.02, stale_seconds=0.3)


def foreign(leases: Leases) -> None:
    """Let a holder seem to be of another machine, and freeze: it says nothing any more."""
    path = Path(leases.location, HOLDERS, leases._holder)
    said = json.loads(path.read_bytes()) | {"machine": "another"}
    leases._beat = lambda: None  # type: ignore[method-assign]
    path.write_text(json.dumps(said))


def test_one_holds_it_until_it_is_released(ada: Leases, bob: Leases, tmp_path: Path):
    claim = ada.take(ITEM)
    assert holds(claim)
    assert bob.take(ITEM) is None
    assert bob.held() == {ITEM}
    assert claim is not None
    claim.release()
    claim.release()
    assert bob.held() == set()
    with bob.take(ITEM) or pytest.fail("it was released") as second:
        assert holds(second)
        assert ada.take(ITEM) is None
    assert list((tmp_path / LEASES).iterdir()) == []


def test_two_threads_of_one_process_keep_each_other_away(ada: Leases):
    taken: list[Claim | None] = []
    threads = [threading.Thread(target=lambda: taken.append(ada.take(ITEM))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(holds(claim) for claim in taken) == 1


def test_the_thread_that_computes_it_never_waits_for_itself(ada: Leases):
    flight = Flight(lambda: ada)
    with flight.turn(ITEM, lambda: False) as outer:
        assert holds(outer)
        assert not holds(flight.turn(ITEM, lambda: False))


def test_a_beating_holder_keeps_it_beyond_any_patience(ada: Leases, bob: Leases):
    claim = ada.take(ITEM)
    watch = Watch(bob, ITEM)
    deadline = time.monotonic() + 4 * bob.stale_seconds
    while time.monotonic() < deadline:
        assert watch.claim() is None
        time.sleep(0.01)
    assert watch.seen is not None
    assert watch.seen.who == "ada@lab"
    assert holds(claim)


def test_a_frozen_holder_of_another_machine_loses_it_and_can_do_no_harm_afterwards(ada: Leases, bob: Leases):
    claim = ada.take(ITEM)
    foreign(ada)
    watch, stolen = Watch(bob, ITEM), None
    assert watch.claim() is None

    def steals() -> bool:
        nonlocal stolen
        stolen = watch.claim()
        return stolen is not None

    until(steals)
    assert holds(stolen)
    assert claim is not None
    claim.release()  # it wakes up and believes it still has it
    holder = bob.holder(ITEM)
    assert holder is not None
    assert holder.who == "bob@lab"
    assert ada.take(ITEM) is None


def test_of_many_who_see_a_stale_lease_one_gets_it(ada: Leases, tmp_path: Path):
    kept = ada.take(ITEM)
    foreign(ada)
    holder = ada.holder(ITEM)
    assert holder is not None
    others = [Leases(str(tmp_path)) for _ in range(8)]
    got: list[Claim | None] = []
    threads = [threading.Thread(target=lambda one=one: got.append(one.steal(ITEM, holder))) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(holds(claim) for claim in got) == 1
    assert sum(claim is None for claim in got) == 7
    assert holds(kept)


def test_whoever_slept_itself_does_not_think_others_dead(
    ada: Leases, bob: Leases, monkeypatch: pytest.MonkeyPatch
):
    claim = ada.take(ITEM)
    foreign(ada)
    watch = Watch(bob, ITEM)
    assert watch.claim() is None
    now = time.monotonic
    monkeypatch.setattr(watching.time, "monotonic", lambda: now() + 3600)  # suspended for an hour
    assert watch.claim() is None
    assert holds(claim)


def test_clocks_of_hosts_are_not_believed(ada: Leases, bob: Leases, tmp_path: Path):
    claim = ada.take(ITEM)
    for path in [*tmp_path.rglob("*"), tmp_path]:
        os.utime(path, (0, 0))  # a file server of 1970
    watch = Watch(bob, ITEM)
    for _ in range(20):
        assert watch.claim() is None
        time.sleep(0.01)
    assert holds(claim)


def test_a_killed_process_of_this_machine_is_known_at_once(tmp_path: Path, repository: Path):
    program = (
        "import sys, time; from jupyter_llmops.cache.leases import Leases\n"
        f"claim = Leases({str(tmp_path)!r}).take({ITEM!r}); print(claim.name, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository / "src")},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip()
    patient = Leases(str(tmp_path), stale_seconds=1e9)
    watch = Watch(patient, ITEM)
    assert watch.claim() is None
    process.kill()
    until(lambda: holds(watch.claim()))  # still a zombie, as nobody waited for it
    process.communicate()


def test_a_forked_child_is_another_holder_and_takes_nothing_along(ada: Leases):
    claim = ada.take(ITEM)
    with ada._lock:  # as a thread may have it at that moment, which the child has not
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            assert claim is not None
            claim.release()  # its copy gives nothing back
            other = ada.take("cd" * 32)
            os._exit(0 if ada.take(ITEM) is None and other is not None and holds(other) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert holds(claim)
    holder = ada.holder(ITEM)
    assert holder is not None
    assert not holder.dead


def test_a_folder_that_can_not_be_written_keeps_nobody_from_computing(tmp_path: Path):
    (tmp_path / LEASES).write_text("no folder")
    claim = Leases(str(tmp_path)).take(ITEM)
    assert claim is not None
    assert not holds(claim)
    claim.release()


@pytest.mark.parametrize("kind", ["file", "link", "stranger", "nonsense"])
def test_what_somebody_planted_delays_at_most(kind: str, bob: Leases, tmp_path: Path):
    lease = tmp_path / LEASES / ITEM
    lease.parent.mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "file":
        lease.write_text("me")
    elif kind == "link":
        lease.symlink_to(outside)
    else:
        lease.mkdir()
        name = "ff" * 16 + "-1" if kind == "stranger" else "\x1b[2J<b>"
        (lease / name).write_text("")
        (tmp_path / HOLDERS).mkdir()
        (tmp_path / HOLDERS / ("ff" * 16)).write_bytes(b'{"who": "\\u001b[2J", "pid": "x"}')
    watch = Watch(bob, ITEM)
    until(lambda: watch.claim() is not None)
    assert list(outside.iterdir()) == []
    assert watch.seen is None or watch.seen.who == "Somebody"


def test_a_forgotten_claim_is_released(ada: Leases, bob: Leases):
    claim = ada.take(ITEM)
    assert holds(claim)
    del claim
    assert holds(bob.take(ITEM))


def test_a_lease_needs_no_lock_of_the_file_system():
    source = Path(module.__file__).read_text("utf-8")
    assert not {"flock", "lockf", "fcntl", "filelock", "time.time", "datetime"} & set(
        source.replace("(", " ").split()
    )


def test_waiting_ends_with_the_answer_or_with_the_last_who_computes_it(ada: Leases, bob: Leases):
    flight, there = Flight(lambda: bob), threading.Event()
    assert not flight.wait(ITEM, there.is_set, seconds=60)  # nobody computes it
    claim = ada.take(ITEM)
    assert not flight.wait(ITEM, there.is_set, seconds=0.05)
    threading.Timer(0.1, there.set).start()
    assert flight.wait(ITEM, there.is_set, seconds=60)
    there.clear()
    assert claim is not None
    threading.Timer(0.1, claim.release).start()
    assert not flight.wait(ITEM, there.is_set, seconds=60)


def test_whom_a_wait_found_stale_can_be_followed_at_once(ada: Leases, bob: Leases):
    claim, flight = ada.take(ITEM), Flight(lambda: bob)
    foreign(ada)
    assert flight.claim(ITEM) is None
    assert not flight.wait(ITEM, lambda: False, seconds=60)
    assert holds(flight.claim(ITEM))
    assert holds(claim)


def test_waiting_for_oneself_gives_nothing_away(ada: Leases):
    claim, flight = ada.take(ITEM), Flight(lambda: ada)
    assert not flight.wait(ITEM, lambda: False, seconds=60)
    again = flight.claim(ITEM)
    assert not holds(again)
    holder = ada.holder(ITEM)
    assert claim is not None
    assert holder is not None
    assert holder.name == claim.name


def test_whoever_computes_waits_for_nobody(ada: Leases, bob: Leases):
    """Of two that each need what the other computes, both go on."""
    other = "cd" * 32
    taken = bob.take(other)
    with Flight(lambda: ada).turn(ITEM, lambda: False) as outer:
        assert holds(outer)
        assert not holds(Flight(lambda: ada).turn(other, lambda: False))
    assert holds(taken)


def test_nobody_waits_for_ever_for_answers_that_are_never_kept(tmp_path: Path):
    """Of 12 that ask for what is not stored, some compute side by side."""
    lock, running, peak = threading.Lock(), 0, 0

    def ask(leases: Leases) -> None:
        nonlocal running, peak
        with Flight(lambda: leases).turn(ITEM, lambda: False):
            with lock:
                running += 1
                peak = max(peak, running)
            time.sleep(0.1)
            with lock:
                running -= 1

    threads = [threading.Thread(target=ask, args=(Leases(str(tmp_path)),)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak >= 2


def test_who_is_waited_for_is_said(ada: Leases, bob: Leases):
    claim, said = ada.take(ITEM), []
    Flight(lambda: bob).wait(ITEM, lambda: bool(said), seconds=60, progress=lambda word, _: said.append(word))
    assert holds(claim)
    assert said[0].startswith("ada@lab is computing this answer; waiting since ")


def test_a_holder_that_lives_and_never_gives_an_answer_is_not_waited_for_without_end(
    ada: Leases, bob: Leases
):
    held = [ada.take(item) for item in (ITEM, "cd" * 32, "ef" * 32)]
    flight = Flight(lambda: bob, longest_wait=1.0)
    with pytest.warns(CacheWarning, match="^ada@lab said for 1.* to be computing what was asked"):
        assert not holds(flight.turn(ITEM, lambda: False))
    assert bob.holder(ITEM) is not None, "nothing was taken from it"
    # Nor is it for its other leases, however many it has.
    assert flight.claim("ef" * 32) is not None
    assert not holds(flight.turn("cd" * 32, lambda: False))
    assert all(map(holds, held))


def test_several_short_waits_add_up(ada: Leases, bob: Leases):
    held, flight = ada.take(ITEM), Flight(lambda: bob, longest_wait=0.6)
    assert flight.claim(ITEM) is None
    with pytest.warns(CacheWarning, match="gave nothing"):
        until(lambda: flight.wait(ITEM, lambda: False, seconds=0.2) or flight.claim(ITEM) is not None)
    assert not holds(flight.claim(ITEM))
    assert holds(held)
