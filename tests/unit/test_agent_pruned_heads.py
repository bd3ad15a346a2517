"""Heads that a catalog lost or never had: what is planted there keeps none back and gets none signed."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_llmops.agent import heads as heads_module
from jupyter_llmops.agent import pruned_heads, published_heads
from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.head_checks import signed_by
from jupyter_llmops.agent.published_heads import PublishedHeads
from jupyter_llmops.agent.retaining import retain
from jupyter_llmops.audit import retention
from jupyter_llmops.audit.sealing import seal
from jupyter_llmops.catalog.schemas import HEADS
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.trail import Head
from trail_home import TrailHome, stamp

if TYPE_CHECKING:
    from lancedb.table import Table


@pytest.fixture
def ada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrailHome:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "ada"))
    monkeypatch.setattr(heads_module, "SECONDS_BETWEEN_SEARCHES", -1.0)
    monkeypatch.setattr(pruned_heads, "SECONDS_BETWEEN_SEARCHES", -1.0)
    monkeypatch.setattr(retention, "moment_before", lambda _: datetime.now(UTC) + timedelta(days=1))
    return TrailHome(tmp_path / "ada", tmp_path / "catalog", "ada")


def session_of_heads(ada: TrailHome, *counts: int, due: int = 0) -> str:
    """Publish heads of a session that ends, and leave one that only is signed."""
    journal = ada.journal()
    for count in counts:
        stamp(journal, count)
        ada.publish()
    stamp(journal, due)
    journal.close()
    seal(ada.audit, journal.session, ada.keys())
    return journal.session


def prune_all(ada: TrailHome, *, says: bool = True) -> None:
    def say(_kind: str, _fields: dict[str, Any]) -> bool:
        return says

    assert retain(ada.audit, ada.catalog, "1d", keys=ada.keys(), stamp=say, yes=True).done


def delete(ada: TrailHome, where: str) -> None:
    ada.catalog._connection.writing(HEADS, partial(_delete, where))


def _delete(where: str, table: Table) -> None:
    table.delete(where)


def plant(ada: TrailHome, session: str, *sizes: int) -> None:
    ada.catalog.heads.publish([Head(session, size, "", "", "eve", "x", datetime.now(UTC)) for size in sizes])


def true_sizes(ada: TrailHome, public: bytes) -> list[int]:
    return [head.size for head in ada.catalog.heads.list() if signed_by(head, [public])]


def memory(ada: TrailHome) -> PublishedHeads:
    return PublishedHeads(agent_file(ada.audit, ada.catalog.location, "heads"))


def test_planted_sizes_get_no_head_signed(ada: TrailHome) -> None:
    session = session_of_heads(ada, 4, 4)
    plant(ada, session, *range(1, 10))
    prune_all(ada)
    delete(ada, "true")
    ada.start()
    assert ada.publish() == 2
    assert true_sizes(ada, ada.keys().log_public) == [5, 9]


@pytest.mark.parametrize("pruned", [True, False])
def test_a_row_planted_in_the_place_of_a_head_keeps_it_from_nothing(ada: TrailHome, *, pruned: bool) -> None:
    session = session_of_heads(ada, 2, 4)
    if pruned:
        prune_all(ada)
    ada.start()
    assert ada.publish() == 0
    delete(ada, "size = 3")
    plant(ada, session, 3)
    assert ada.publish() == 1
    assert true_sizes(ada, ada.keys().log_public) == [3, 7]
    assert len(ada.told) == 1
    assert "somebody deleted them there" in ada.told[0]
    assert ada.publish() == 0


def test_a_lost_head_is_told_of_and_none_is_forgotten_where_the_last_was_never_published(
    ada: TrailHome,
) -> None:
    session = session_of_heads(ada, 2, 4, due=2)
    prune_all(ada)
    delete(ada, "size = 3")
    assert ada.publish() == 2
    assert true_sizes(ada, ada.keys().log_public) == [3, 7, 9]
    assert (memory(ada).read(), memory(ada).due()) == ({session: {3, 7, 9}}, {})
    assert [sentence.partition(",")[0] for sentence in ada.told] == [f"1 heads of session {session}"]


def test_whole_sessions_are_checked_some_at_a_time(ada: TrailHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruned_heads, "_MOST_CHECKED", 1)
    sessions = [session_of_heads(ada, 1, 1) for _ in range(2)]
    prune_all(ada)
    delete(ada, "size = 2")
    for session in sessions:
        plant(ada, session, 2)
    ada.start()
    assert [ada.publish() for _ in range(3)] == [1, 1, 0]


def test_pruned_sessions_wait_for_keys_that_can_t_be_read(ada: TrailHome) -> None:
    session_of_heads(ada, 1)
    prune_all(ada)
    delete(ada, "true")
    keys = (ada.folder / "keys").rename(ada.folder / "away")
    (ada.folder / "keys").write_text("in the way")
    ada.start()
    assert [ada.publish() for _ in range(2)] == [0, 0]
    assert len(ada.told) == 1
    (ada.folder / "keys").unlink()
    keys.rename(ada.folder / "keys")
    assert ada.publish() == 1


def test_heads_of_a_replaced_key_come_again_as_they_were(ada: TrailHome) -> None:
    session = session_of_heads(ada, 2, due=4)
    former = ada.keys().log_public
    prune_all(ada)
    delete(ada, "true")
    (ada.folder / "keys" / "log.key").unlink()
    ada.start()
    assert ada.publish() == 1
    assert ada.publish() == 0
    assert true_sizes(ada, former) == [7]
    assert true_sizes(ada, ada.keys().log_public) == []
    assert [head.previous_size for head in ada.catalog.heads.list()] == [0]
    assert memory(ada).due() == {}
    assert len(ada.told) == 1
    assert ada.told[0].startswith(f"1 heads of session {session}")
    assert "can't come again, as the key that signed them was replaced" in ada.told[0]


def test_a_head_is_expected_before_its_session_is_said_to_go(ada: TrailHome) -> None:
    session = session_of_heads(ada, due=3)
    with pytest.raises(AuditError, match="can't be recorded"):
        prune_all(ada, says=False)
    assert memory(ada).due() == {session: {4}}
    assert ada.publish() == 1
    assert memory(ada).due() == {}


def test_a_line_of_another_process_is_kept_while_the_memory_is_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.heads"
    path.write_text("".join(f"s {size} {size - 1}\n" for size in range(1, 60)))
    monkeypatch.setattr(published_heads, "_LARGE_BYTES", 100)
    kernel = threading.Thread(target=partial(PublishedHeads(path).expect, "pruned", 7))
    sync = os.fsync

    def at_that_moment(descriptor: int) -> None:
        sync(descriptor)
        kernel.start()
        kernel.join(0.3)  # it waits until the file is in its place

    monkeypatch.setattr(published_heads.os, "fsync", at_that_moment)
    head = Head("s", 60, "", "", "", "", datetime.now(UTC), previous_size=59)
    PublishedHeads(path).add([head])
    kernel.join()
    assert PublishedHeads(path).due() == {"pruned": {7}}
    assert PublishedHeads(path).read() == {"s": set(range(1, 61))}
