"""A log in a folder: what lies where, growing it, and what a kill or a stranger leaves there."""

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tlog_growth
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from jupyter_llmops.audit.tlog.note import format_note, parse_note, sign_note
from jupyter_llmops.audit.tlog.tile_files import TileFiles, tile_path
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.errors import AuditError
from tlog_growth import KEY, grow, lines, signed

BORDERS = [0, 1, 2, 255, 256, 257, 511, 512, 513, 700]


def root_of(size):
    frontier = Frontier()
    for line in lines(0, size):
        frontier.append(leaf_hash(line))
    return frontier.root()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"), (0, 1, "tile/0/000.p/1"), (999, 256, "tile/0/999"),
        (1000, 255, "tile/0/x001/000.p/255"), (1_234_067, 256, "tile/0/x001/x234/067"),
    ],
)  # fmt: skip
def test_tiles_lie_where_the_specification_says(index, width, path):
    assert tile_path(0, index, width) == path
    assert tile_path("entries", index, width) == path.replace("/0/", "/entries/", 1)


@pytest.mark.parametrize("size", BORDERS)
def test_a_log_has_the_leaves_and_the_root_of_its_lines(tmp_path, size):
    assert TileStore(tmp_path / "log", sync=False).append(lines(0, size)) == size
    store = TileStore(tmp_path / "log")
    assert store.size() == size
    assert list(store.entries(0, size)) == lines(0, size)
    assert list(store.leaf_hashes(0, size)) == [leaf_hash(line) for line in lines(0, size)]
    assert store.root() == root_of(size)
    assert list(store.entries(size // 3, size // 2)) == lines(size // 3, size // 2)


@pytest.mark.parametrize("step", [1, 7, 256, 300])
def test_it_does_not_matter_in_which_portions_a_log_grew(tmp_path, step):
    size = 600
    growing = TileStore(tmp_path / "portions", sync=False)
    roots = {}
    for start in range(0, size, step):
        stop = min(size, start + step)
        growing = TileStore(growing.folder, sync=False) if start % 3 else growing
        assert growing.append(lines(start, stop)) == stop
        roots[stop] = growing.root()
        growing.write_checkpoint(signed(growing, stop))
    assert all(root == root_of(stop) for stop, root in list(roots.items())[:: max(1, 64 // step)])
    whole = TileStore(tmp_path / "whole", sync=False)
    whole.append(lines(0, size))
    whole.write_checkpoint(signed(whole, size))
    growing.write_checkpoint(signed(growing, size))  # no partial tile of a former one is kept any more
    assert files(growing.folder) == files(whole.folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    TileStore(folder, sync=False).append(lines(0, 70_000))
    return folder


def test_seventy_thousand_leaves_are_the_files_that_the_specification_counts(large):
    found = {name: len(data) for name, data in files(large).items() if "entries" not in name}
    assert found == {
        **{tile_path(0, index): 8192 for index in range(273)},
        tile_path(0, 273, 112): 112 * 32,
        tile_path(1, 0): 8192,
        tile_path(1, 1, 17): 17 * 32,
        tile_path(2, 0, 1): 32,
    }


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 65_791, 65_792, 65_793, 70_000])
def test_roots_and_proofs_hold_on_both_sides_of_a_level(large, size):
    frontier = Frontier()
    roots = {}
    for number in range(size):
        roots[number] = frontier.root() if number % 16_384 in {0, 255} else b""
        frontier.append(leaf_hash(b"leaf %d" % number))
    store = TileStore(large)
    assert store.size() == 70_000
    assert store.root(size) == frontier.root()
    for index in (0, 255, 256, 65_279, 65_534, size - 1):
        proof = inclusion_proof(index, size, store.hash_at)
        assert verify_inclusion(leaf_hash(b"leaf %d" % index), index, size, proof, frontier.root())
    for old, root in roots.items():
        if root:
            assert verify_consistency(
                old, size, root, frontier.root(), consistency_proof(old, size, store.hash_at)
            )


def counted_reads(monkeypatch):
    read: list[int] = []
    real = Path.read_bytes

    def read_bytes(self):
        data = real(self)
        read.append(len(data))
        return data

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    return read


def test_appending_reads_the_right_edge_and_not_the_tree(large, tmp_path, monkeypatch):
    shutil.copytree(large, tmp_path / "log")
    read = counted_reads(monkeypatch)
    store = TileStore(tmp_path / "log", sync=False)
    assert store.append(lines(70_000, 70_001)) == 70_001
    assert len(read) <= 6
    assert sum(read) < 32 * 256 * 3 + 256 * 16
    read.clear()
    store.append(lines(70_001, 70_002))
    assert sum(read) < 1024  # the higher tiles, which are as they were; leaves it still knows


def test_it_sees_what_another_process_appended(tmp_path):
    one, other = TileStore(tmp_path, sync=False), TileStore(tmp_path, sync=False)
    for start in range(0, 600, 100):
        assert (one if start % 200 else other).append(lines(start, start + 100)) == start + 100
    assert one.root() == other.root() == root_of(600)


def test_a_disk_that_refuses_once_is_asked_again(tmp_path, monkeypatch):
    """Also where the leaves are there already and only the tidying failed."""
    whole = TileStore(tmp_path / "whole", sync=False)
    whole.append(lines(0, 300))
    failed = []

    def refuse(self, level, index, real=TileFiles.drop_partials):
        if level == "entries" and not failed:
            failed.append(index)
            raise OSError(errno.EIO, "Input/output error")
        real(self, level, index)

    monkeypatch.setattr(TileFiles, "drop_partials", refuse)
    store = TileStore(tmp_path / "log", sync=False)
    store.append(lines(0, 10))
    with pytest.raises(OSError, match="Input/output"):
        store.append(lines(10, 300))
    assert store.size() == 256
    assert store.append(lines(256, 300)) == 300
    assert files(tmp_path / "log") == files(tmp_path / "whole")


def test_leaves_are_taken_as_they_come(tmp_path):
    """A million lines need not be in memory: each bundle is written before the next line is asked for."""
    store = TileStore(tmp_path, sync=False)
    seen = []

    def growing():
        for number in range(1000):
            if number % 256 == 0:
                seen.append(TileStore(tmp_path).size())
            yield b"leaf %d" % number

    store.append(growing())
    assert seen == [0, 256, 512, 768]


def test_a_leaf_that_is_too_long_is_refused_and_the_log_stays_as_it_can_be_continued(tmp_path):
    store = TileStore(tmp_path, sync=False)
    store.append([b"", b"x" * 65_535])
    with pytest.raises(AuditError, match="65,536 bytes can't stand in a log"):
        store.append([b"y", b"x" * 65_536])
    assert store.size() == 2
    assert store.append([b"y"]) == 3
    assert list(TileStore(tmp_path).entries(0, 3)) == [b"", b"x" * 65_535, b"y"]


def test_nothing_is_written_over(tmp_path):
    store = TileStore(tmp_path, sync=False)
    store.append(lines(0, 300))
    before = files(tmp_path)
    # The same lines again, as after a restored backup that has lost a bundle: nothing changes.
    (tmp_path / tile_path("entries", 1, 44)).unlink()
    assert TileStore(tmp_path, sync=False).append(lines(256, 300)) == 300
    assert files(tmp_path) == before
    # Other lines at the same place are refused, whatever was lost.
    (tmp_path / tile_path("entries", 1, 44)).unlink()
    with pytest.raises(AuditError, match="another content"):
        TileStore(tmp_path, sync=False).append([b"other", *lines(257, 300)])
    # Even where a stranger was faster than a look before.
    assert TileStore(tmp_path, sync=False).append(lines(256, 300)) == 300
    assert files(tmp_path) == before


def test_a_file_that_appears_between_the_look_and_the_link_wins(tmp_path, monkeypatch):
    real = os.link

    def link(source, target, **rest):
        Path(target).write_bytes(b"a stranger's")
        real(source, target, **rest)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(AuditError, match="another content"):
        TileStore(tmp_path, sync=False).append(lines(0, 3))
    assert set(files(tmp_path).values()) == {b"a stranger's"}


def test_a_file_system_without_links_will_do(tmp_path, monkeypatch):
    def no_links(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    for start in range(0, 600, 100):
        TileStore(tmp_path, sync=False).append(lines(start, start + 100))
    assert TileStore(tmp_path).root() == root_of(600)


def test_files_are_the_owners_alone(tmp_path):
    store = TileStore(tmp_path / "audit" / "log", sync=False)
    store.append(lines(0, 2))
    store.write_checkpoint(signed(store, 2))
    for path in (tmp_path / "audit" / "log").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_checkpoint_of_another_tree_is_not_put_there(tmp_path):
    store = TileStore(tmp_path, sync=False)
    store.append(lines(0, 5))
    good = signed(store, 5)
    store.write_checkpoint(good)
    for wrong in (Checkpoint("log", 5, root_of(4)), Checkpoint("log", 6, root_of(5))):
        with pytest.raises(AuditError, match="is not one of the log"):
            store.write_checkpoint(format_note(sign_note(wrong.text, "log", KEY)))
    with pytest.raises(ValueError, match="note"):
        store.write_checkpoint(b"rubbish")
    assert store.read_checkpoint() == good
    assert TileStore(tmp_path / "nothing").read_checkpoint() is None


def test_partial_tiles_go_when_no_checkpoint_needs_them(tmp_path):
    store = TileStore(tmp_path, sync=False)
    for size in (10, 20, 30, 250):
        store.append(lines(store.size(), size))
        store.write_checkpoint(signed(store, size))
    assert sorted(name for name in files(tmp_path) if "/0/" in name) == [
        "tile/0/000.p/250", "tile/0/000.p/30",
    ]  # fmt: skip
    store.append(lines(250, 256))  # full: no partial one is needed any more
    assert sorted(files(tmp_path)) == ["checkpoint", "tile/0/000", "tile/1/000.p/1", "tile/entries/000"]
    # Every size is still there to be read, from what is wider.
    assert [store.root(size) for size in (10, 20, 30, 250)] == [root_of(n) for n in (10, 20, 30, 250)]


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("tile/0/000", b"x" * 8191), ("tile/0/000", b""), ("tile/entries/000", b"\xff\xff"),
        ("tile/entries/000", b""), ("tile/entries/001.p/44", b"\x00"), ("tile/entries/001.p/44", b"\0\1xx"),
        ("tile/0/001.p/44", b"x" * 31),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path, path, data):
    TileStore(tmp_path, sync=False).append(lines(0, 300))
    (tmp_path / path).write_bytes(data)
    store = TileStore(tmp_path)
    read = store.entries if "entries" in path else store.leaf_hashes
    with pytest.raises(AuditError, match=re.escape(path)):
        list(read(0, 300))


def test_a_missing_file_is_named(tmp_path):
    TileStore(tmp_path, sync=False).append(lines(0, 600))
    (tmp_path / "tile/entries/000").unlink()
    with pytest.raises(AuditError, match="lacks tile/entries/000"):
        list(TileStore(tmp_path).entries(0, 600))
    (tmp_path / "tile/0/001").unlink()
    with pytest.raises(AuditError, match="lacks tile/0/001"):
        list(TileStore(tmp_path).leaf_hashes(0, 600))


def test_leaves_that_their_hashes_do_not_cover_are_not_continued(tmp_path):
    TileStore(tmp_path, sync=False).append(lines(0, 3))
    path = tmp_path / tile_path("entries", 0, 3)
    path.write_bytes(path.read_bytes().replace(b"leaf 1", b"LEAF 1"))
    with pytest.raises(AuditError, match="disagree"):
        TileStore(tmp_path, sync=False).append(lines(3, 4))


@pytest.fixture
def killed_at():
    """Return what grows a log in a child that dies before its n-th change of the disk, and whether it came to that."""
    with subprocess.Popen(
        [sys.executable, tlog_growth.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as forking:

        def die(folder, moment):
            forking.stdin.write(f"{moment} {folder}\n")
            forking.stdin.flush()
            return bool(int(forking.stdout.readline()))

        yield die


def test_a_kill_at_any_moment_leaves_a_log_that_goes_on_to_the_same_files(tmp_path, killed_at):
    grow(tmp_path / "whole")
    whole = TileStore(tmp_path / "whole", sync=False)
    whole.write_checkpoint(signed(whole, 515))
    expected = files(tmp_path / "whole")
    moment = 0
    while killed_at(tmp_path / str(moment), moment):
        folder = tmp_path / str(moment)
        store = TileStore(folder, sync=False)
        size = store.size()
        assert list(store.entries(0, size)) == lines(0, size)
        assert store.root() == root_of(size)
        if moment % 7 == 0:  # and a second time, somewhere else
            killed_at(folder, moment // 7 % 11)
        grow(folder)
        again = TileStore(folder, sync=False)
        again.write_checkpoint(signed(again, 515))
        assert {n: d for n, d in files(folder).items() if not n.endswith(".unfinished")} == expected
        moment += 1
    assert moment > 60


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300), st.booleans(), st.booleans()), max_size=12))
def test_any_growth_gives_the_tree_of_the_rfc_and_proofs_of_each_head(portions):
    with tempfile.TemporaryDirectory() as folder:
        store = TileStore(Path(folder), sync=False)
        heads = []
        for count, reopen, sign in portions:
            if reopen:
                store = TileStore(Path(folder), sync=False)
            size = store.size()
            assert store.append(lines(size, size + count)) == size + count
            if sign:
                store.write_checkpoint(signed(store, size + count))
                heads.append((size + count, store.root()))
        size, root = store.size(), root_of(store.size())
        assert TileStore(Path(folder)).root() == root
        assert list(TileStore(Path(folder)).entries(0, size)) == lines(0, size)
        for old, old_root in heads:
            proof = consistency_proof(old, size, TileStore(Path(folder)).hash_at)
            assert verify_consistency(old, size, old_root, root, proof)


def test_who_reads_while_another_writes_sees_whole_heads(tmp_path):
    """Also where the partial tiles of the head that was read are removed meanwhile."""
    store = TileStore(tmp_path, sync=False)
    store.append(lines(0, 1))
    store.write_checkpoint(signed(store, 1))
    child = os.fork()
    if child == 0:
        try:
            for start in range(1, 700, 3):
                store.append(lines(start, start + 3))
                store.write_checkpoint(signed(store, start + 3))
        finally:
            os._exit(0)
    seen = set()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        reader = TileStore(tmp_path)
        head = parse_checkpoint(parse_note(reader.read_checkpoint()).text)
        assert reader.root(head.size) == head.root
        assert list(reader.entries(head.size - 1, head.size)) == lines(head.size - 1, head.size)
        seen.add(head.size)
    assert len(seen) > 10
    assert TileStore(tmp_path).size() >= 700


def test_who_reads_slowly_finds_a_tile_that_grows_at_each_of_its_looks(tmp_path, monkeypatch):
    """On a busy machine what was listed is gone, in favour of a wider one, time and again."""
    store, reader, listed = TileStore(tmp_path, sync=False), TileStore(tmp_path), TileFiles.widths

    def grow(size):
        for start in range(size - 3, size):
            store.append(lines(start, start + 1))
            store.write_checkpoint(signed(store, start + 1))

    grow(3)
    sizes = iter(range(6, 120, 3))

    def list_and_grow(files, level, index):
        found = listed(files, level, index)
        if files is reader._files and (size := next(sizes, None)):
            grow(size)
        return found

    monkeypatch.setattr(TileFiles, "widths", list_and_grow)
    assert list(reader.entries(0, 1)) == lines(0, 1)
    assert next(sizes, None) is None
