"""The fast way to read a line never takes what the slow one, by rfc8785, refuses; a second process finds the same."""

from __future__ import annotations

import io
import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from jupyter_llmops.audit.verification import line_hashes
from jupyter_llmops.audit.verification.line_hashes import LineHasher, hash_lines
from jupyter_llmops.audit.verification.lines import line_blocks, read_line, strict_leaves, strict_reader
from jupyter_llmops.audit.verification.tree import LeafTree

TEXTS = (
    "", "a", "é", "\u007f", "\x00", "\x1f", "\b\t\n\f\r", '"\\/', "\u2028", "\ue000", "\U0001f600", "\ufeff", "\uffff",
    "1.5", ":1.5,", "[2e9]",
)  # fmt: skip
NUMBERS = (0, -1, 2**53 - 1, -(2**53) + 1, 2**53, 2**63, 2**64, -(2**63), 10**25)
FLOATS = (0.0, -0.0, 1.0, 1.5, 1e16, 1e21, 1e-7, 5e-324, 1.7976931348623157e308, 123456789012345680.0)


def some_value(chance: random.Random, depth: int = 0) -> Any:
    way = chance.randrange(9 if depth < 4 else 6)
    if way < 2:
        return "".join(chance.choices(TEXTS, k=chance.randrange(4)))
    if way == 2:
        return chance.choice(NUMBERS)
    if way == 3:
        return chance.choice((True, False, None, chance.randrange(-9, 9)))
    if way == 4:
        return chance.choice(FLOATS) if chance.random() < 0.3 else "plain"
    if way == 5:
        return "x"
    if way == 6:
        return [some_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(TEXTS) + chance.choice(TEXTS): some_value(chance, depth + 1) for _ in range(3)}


def some_line(chance: random.Random) -> bytes:
    """A line in one of several forms, mostly nearly right, sometimes with a changed byte."""
    value = {f"k{n}" if chance.random() < 0.5 else chance.choice(TEXTS): some_value(chance) for n in range(4)}
    try:
        line = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:
        line = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    way = chance.randrange(8)
    if way == 0:
        line = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    elif way == 1:
        line = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    elif way == 2:
        line = json.dumps(value).encode()
    elif way == 3 and line:
        place = chance.randrange(len(line))
        line = line[:place] + bytes([chance.randrange(256)]) + line[place + 1 :]
    elif way == 4:
        line = line[:-1] + b',"k0":1}'
    return line


def test_it_takes_nothing_that_the_slow_way_refuses() -> None:
    read = strict_reader()
    chance = random.Random(20261122)
    taken = refused = 0
    # No line of a block holds a newline.
    some = [line for line in (some_line(chance) for _ in range(20_000)) if b"\n" not in line]
    for line, fast in zip(some, strict_leaves(some), strict=True):
        assert fast == read(line), line
        leaf, wrong = read_line(line)
        if fast is not None:
            assert wrong == "", line
            assert fast == leaf, line
            assert rfc8785.dumps(leaf) == line
            taken += 1
        refused += bool(wrong)
    assert taken > 500  # both ways were walked
    assert refused > 500


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1.0}',
        b'{"a":1e16}',
        b'{"a":[{"b":[0.5]}]}',
        b'{"a":NaN}',
        b'{"a":9007199254740992}',
        b'{"a":-0}',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        '{"\ue000":1,"\U0001f600":1}'.encode(),  # in the order of UTF-8, which is not that of UTF-16
        b'{"a":"\\ud800"}',
        b'{"a":"\\u00e9"}',
        b'{"a":"\\/"}',
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b"[]",
        b"null",
        b"",
        b"{}",
    ],
)
def test_what_is_left_to_the_slow_way(line: bytes) -> None:
    found = strict_reader()(line)
    assert found is None or found == {}


def test_floats_are_read_slowly_and_right() -> None:
    assert read_line(b'{"a":1.5}') == ({"a": 1.5}, "")
    assert "canonical" in read_line(b'{"a":1.0}')[1]


@pytest.mark.parametrize("block", [1, 2, 7, 64, 4096])
def test_blocks_have_the_lines_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("jupyter_llmops.audit.verification.lines.BLOCK_BYTES", block)
    data = b"one\n\ntwo" + b"x" * 90 + b"\nthree\nrest"
    path = tmp_path / "journal"
    path.write_bytes(data + b" that came later\n")
    blocks = list(line_blocks(path, len(data)))
    assert [line for lines, _ in blocks for line in lines] == data.split(b"\n")[:-1]
    assert blocks[-1][1] == b"rest"


def test_roots_are_those_of_rfc_6962() -> None:
    def root(hashes: list[bytes]) -> bytes:
        if len(hashes) < 2:
            return hashes[0] if hashes else sha256(b"").digest()
        half = 1 << (len(hashes) - 1).bit_length() - 1
        return sha256(b"\x01" + root(hashes[:half]) + root(hashes[half:])).digest()

    chance = random.Random(3)
    hashes = [sha256(bytes([n])).digest() for n in range(200)]
    tree = LeafTree()
    while tree.size < len(hashes):
        tree.extend(hashes[tree.size : tree.size + chance.randrange(9)])
    for size in range(len(hashes) + 1):
        assert tree.root(size) == root(hashes[:size])
    with pytest.raises(ValueError, match="200 leaves"):
        tree.root(201)


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[list[bytes]]]:
    """A journal of odd and plain lines in several blocks, all of which the second process is asked for."""
    monkeypatch.setattr(line_hashes, "_WORTH_BYTES", 0)
    chance = random.Random(7)
    path = tmp_path / "x.jsonl"
    plain = b'{"id":"%d","text":"' + b"a" * 900 + b'"}'
    some = [plain % n if n % 3 else some_line(chance).replace(b"\n", b"") for n in range(20_000)]
    path.write_bytes(b"".join(line + b"\n" for line in some))
    return path, [found for found, _ in line_blocks(path, path.stat().st_size)]


def _everything(path: Path, blocks: list[list[bytes]], stop_at: int = -1) -> list[tuple]:
    hasher = LineHasher(path, path.stat().st_size)
    found = []
    for number, block in enumerate(blocks):
        if number == stop_at and hasher._process is not None:
            hasher._process.kill()
        hashed = hasher.hash(block)
        found.append((list(hashed.leaves), hashed.digests, b"".join(hashed.leaf_hashes)))
    assert stop_at >= 0 or hasher._process is not None, "it was the second process that hashed"
    hasher.close()
    return found


def test_both_find_the_same(blocks: tuple[Path, list[list[bytes]]]) -> None:
    path, wanted = blocks
    here = [hash_lines(block) for block in wanted]
    expected = [(list(one.leaves), one.digests, b"".join(one.leaf_hashes)) for one in here]
    assert len(expected) > 2
    assert any(leaf is None for leaves, _, _ in expected for leaf in leaves)
    assert _everything(path, wanted) == expected
    assert _everything(path, wanted, stop_at=1) == expected, "what it had not answered is done here"


def test_what_it_says_of_another_file_counts_for_nothing(blocks: tuple[Path, list[list[bytes]]]) -> None:
    path, wanted = blocks
    hasher = LineHasher(path, path.stat().st_size)
    other = wanted[0][:-1]
    hashed = hasher.hash(other)
    assert (hasher._process, hashed.digests) == (None, hash_lines(other).digests)


def test_no_module_beside_the_notebook_is_taken_for_one_of_ours(
    blocks: tuple[Path, list[list[bytes]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orjson.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    _everything(*blocks)
    assert not (tmp_path / "ran").exists()


def test_what_another_program_says_are_no_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a sitecustomize that prints: it does so before the process can take its own way out."""
    talker, path = tmp_path / "python", tmp_path / "x.jsonl"
    talker.write_text("#!/bin/sh\necho hello from sitecustomize, which is longer than a head\n")
    talker.chmod(0o755)
    path.write_bytes(b"{}\n")
    monkeypatch.setattr(line_hashes, "_WORTH_BYTES", 0)
    monkeypatch.setattr(line_hashes.sys, "executable", str(talker))
    hasher = LineHasher(path, 3)
    hashed = hasher.hash([b"{}"])
    assert (hasher._process, hashed.digests) == (None, hash_lines([b"{}"]).digests)


@pytest.mark.parametrize(
    "head", [(b"another.", 1, 1, 0), (line_hashes._WORD, 0, 1, 0), (line_hashes._WORD, 1, 1, 2)]
)
def test_hashes_are_of_the_next_block(head: tuple[Any, ...]) -> None:
    first = (line_hashes._WORD, 0, 1, 1)
    said = [line_hashes._HEAD.pack(*each) + b"h" * 96 + b"\0" * 4 * each[3] for each in (first, head)]
    found = line_hashes._blocks_of(io.BytesIO(b"".join(said)), 9)
    assert next(found) == (1, b"h" * 96 + b"\0" * 4)
    with pytest.raises(ValueError, match="next block"):
        next(found)
    many = line_hashes._HEAD.pack(line_hashes._WORD, 0, 10, 0)
    with pytest.raises(ValueError, match="next block"):
        next(line_hashes._blocks_of(io.BytesIO(many), 9))
