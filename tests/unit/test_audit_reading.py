"""Reading a journal from its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.audit import reading


@pytest.mark.parametrize("block", [1, 3, 7, 1 << 16])
@pytest.mark.parametrize(
    "data", [b"", b"a", b"a\n", b"\n", b"a\nbb\ncc", b"ab\n\ncd\n", b"a" * 20 + b"\nb\n" + b"c" * 9]
)
def test_from_its_end_a_file_has_the_same_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, data: bytes
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    path = tmp_path / "journal"
    path.write_bytes(data)
    assert list(reading._lines_backwards(path)) == reading.complete_lines(data)[0][::-1]


@pytest.mark.parametrize("block", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize(
    "data", [b"", b"rest", b"\n", b"one\n\ntwo" + b"x" * 90 + b"\nthree\nrest", b"a\nb\n"]
)
def test_lines_after_one_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, block: int
) -> None:
    monkeypatch.setattr(reading, "_FORWARD_BLOCK", block)
    path = tmp_path / "journal"
    path.write_bytes(data)
    lines = list(enumerate(reading.complete_lines(data)[0]))
    for after in range(-1, len(lines) + 1):
        assert list(reading._lines_after(path, after)) == lines[after + 1 :]
