"""A log in a folder: what lies where, growing it, and what a kill or a stranger leaves there."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.merkle import (
    Frontier,
    leaf_hash,
)
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.audit.tlog.tiles import TileStore, tile_path

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
BORDERS = [0, 1, 2, 255, 256, 257, 511, 512, 513, 700]


def lines(start, stop):
    return [b"leaf %d" % number for number in range(start, stop)]


def root_of(size):
    frontier = Frontier()
    for line in lines(0, size):
        frontier.append(leaf_hash(line))
    return frontier.root()


def signed(store, size):
    return format_note(sign_note(Checkpoint("log", size, store.root(size)).text, "log", KEY))


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
