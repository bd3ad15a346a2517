"""Files of models to the storage and back: addressed by content, resumed, verified, confined."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.catalog.objects import Objects, open_objects
from jupyter_llmops.errors import InferenceError, ModelNotAvailableError
from jupyter_llmops.inference.manifest import digest_of_files, model_files
from jupyter_llmops.inference.transfer import meter, pull_files, push_files
from jupyter_llmops.inference.transfer.storage import confined
from jupyter_llmops.location import Location
from jupyter_llmops.records.model import Model, ModelFile

PIECE = 1000


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_objects(Location.parse(tmp_path / "catalog"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling": true}')
    (folder / "empty.txt").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(os.urandom(3 * PIECE + 7))
    return folder


def model_of(folder: Path) -> Model:
    files = model_files(folder, sorted(path for path in folder.rglob("*") if path.is_file()))
    return Model("m", "llm", f"folder:{folder}", digest=digest_of_files(files), files=files)


def with_files(model: Model, *files: ModelFile) -> Model:
    return replace(model, files=files, digest=digest_of_files(files))


def same(left: Path, right: Path) -> bool:
    def whole(folder: Path) -> str:
        return digest_of_files(model_files(folder, [path for path in folder.rglob("*") if path.is_file()]))

    return whole(left) == whole(right)


class Counted:
    """Passes on to real objects; counts the bytes, and fails where it is told to."""

    def __init__(self, inner: Objects) -> None:
        self.inner = inner
        self.read_bytes = self.written_bytes = 0
        self.stop_after: int | None = None

    def size(self, name: str) -> int | None:
        return self.inner.size(name)

    def delete(self, name: str) -> None:
        self.inner.delete(name)

    def read(self, name: str) -> Iterator[bytes]:
        for block in self.inner.read(name):
            for start in range(0, len(block), 100):
                self._stop(self.read_bytes)
                self.read_bytes += len(block[start : start + 100])
                yield block[start : start + 100]

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        self._stop(self.written_bytes + len(data))
        self.inner.write(name, [data])
        self.written_bytes += len(data)

    def _stop(self, count: int) -> None:
        if self.stop_after is not None and count >= self.stop_after:
            raise KeyboardInterrupt


def test_what_was_pushed_comes_back_whole(objects: Objects, source: Path, tmp_path: Path) -> None:
    model = model_of(source)
    total = sum(file.size_bytes for file in model.files)
    assert push_files(objects, model, source, piece_bytes=PIECE) == total
    assert pull_files(objects, model, tmp_path / "here") == total
    assert same(source, tmp_path / "here")
    assert push_files(objects, model, source, piece_bytes=PIECE) == 0, "sent again"
    assert pull_files(objects, model, tmp_path / "here") == 0


def test_objects_are_named_by_their_content(objects: Objects, source: Path) -> None:
    push_files(objects, model_of(source), source, piece_bytes=PIECE)
    names = list(objects.names("files/"))
    pieces = [name for name in names if not name.endswith(".pieces")]
    assert len(names) - len(pieces) == 1
    for name in pieces:
        assert hashlib.sha256(b"".join(objects.read(name))).hexdigest() == name.removeprefix("files/")


def test_an_interrupted_push_goes_on_at_the_next_piece(
    objects: Objects, source: Path, tmp_path: Path
) -> None:
    model, counted = model_of(source), Counted(objects)
    counted.stop_after = 2 * PIECE + 100
    with pytest.raises(KeyboardInterrupt):
        push_files(counted, model, source, piece_bytes=PIECE)
    with pytest.raises(ModelNotAvailableError, match="not in the team's storage"):
        pull_files(objects, model, tmp_path / "early")
    first = counted.written_bytes
    assert first >= PIECE
    counted.stop_after = None
    push_files(counted, model, source, piece_bytes=PIECE)
    listed = sum(objects.size(name) or 0 for name in objects.names("files/") if name.endswith(".pieces"))
    assert counted.written_bytes == sum(file.size_bytes for file in model.files) + listed, (
        "a piece was sent twice"
    )
    pull_files(objects, model, tmp_path / "here")
    assert same(source, tmp_path / "here")


def test_an_interrupted_pull_goes_on_behind_its_last_whole_piece(
    objects: Objects, source: Path, tmp_path: Path
) -> None:
    model, counted = model_of(source), Counted(objects)
    push_files(objects, model, source, piece_bytes=PIECE)
    total = sum(file.size_bytes for file in model.files)
    listed = sum(objects.size(name) or 0 for name in objects.names("files/") if name.endswith(".pieces"))
    counted.stop_after = 2 * PIECE + 450 + listed
    with pytest.raises(KeyboardInterrupt):
        pull_files(counted, model, tmp_path / "here")
    assert not (tmp_path / "here" / "model.safetensors").exists()
    part = tmp_path / "here" / "model.safetensors.part"
    kept = part.stat().st_size // PIECE * PIECE
    assert 0 < kept < part.stat().st_size
    counted.stop_after, counted.read_bytes = None, 0
    assert pull_files(counted, model, tmp_path / "here") == total - kept - small(model)
    assert same(source, tmp_path / "here")


def small(model: Model) -> int:
    return sum(file.size_bytes for file in model.files if file.path != "model.safetensors")


def test_a_damaged_rest_of_an_earlier_pull_is_not_trusted(
    objects: Objects, source: Path, tmp_path: Path
) -> None:
    model = model_of(source)
    push_files(objects, model, source, piece_bytes=PIECE)
    here = tmp_path / "here"
    here.mkdir()
    (here / "model.safetensors.part").write_bytes(b"x" * (2 * PIECE))
    pull_files(objects, model, here)
    assert same(source, here)


@pytest.mark.parametrize("piece_bytes", [PIECE, 64 << 20])
def test_a_file_that_differs_from_its_digest_is_not_kept(
    objects: Objects, source: Path, tmp_path: Path, piece_bytes: int
) -> None:
    model = model_of(source)
    push_files(objects, model, source, piece_bytes=piece_bytes)
    # The largest is a piece of the weights, or all of them: one byte of it is turned over.
    name = max(
        (n for n in objects.names("files/") if not n.endswith(".pieces")), key=lambda n: objects.size(n) or 0
    )
    damaged = bytearray(b"".join(objects.read(name)))
    damaged[-1] ^= 1
    objects.delete(name)
    objects.write(name, [bytes(damaged)])
    with pytest.raises(InferenceError, match=r"'model\.safetensors' .* not kept") as raised:
        pull_files(objects, model, tmp_path / "here")
    assert "--check" in str(raised.value)
    assert not (tmp_path / "here" / "model.safetensors").exists()
    part = tmp_path / "here" / "model.safetensors.part"
    assert bytes(damaged) not in part.read_bytes()

    assert push_files(objects, model, source, piece_bytes=piece_bytes) == 0
    assert push_files(objects, model, source, piece_bytes=piece_bytes, check=True) == len(damaged)
    pull_files(objects, model, tmp_path / "here")
    assert same(source, tmp_path / "here")


def test_an_object_longer_than_its_file_does_not_fill_the_disk(
    objects: Objects, source: Path, tmp_path: Path
) -> None:
    model, counted = model_of(source), Counted(objects)
    push_files(objects, model, source)
    weights = next(file for file in model.files if file.path == "model.safetensors")
    objects.delete(f"files/{weights.sha256}")
    objects.write(f"files/{weights.sha256}", [os.urandom(50 * PIECE)])
    with pytest.raises(InferenceError, match="not kept"):
        pull_files(counted, model, tmp_path / "here")
    assert counted.read_bytes < 5 * PIECE


@pytest.mark.parametrize(
    "listed",
    [
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"pieces": [["zz", 3007]]}',
        b'{"pieces": [["' + b"0" * 64 + b'", 3006]]}',
        b'{"pieces": [["' + b"0" * 64 + b'", Infinity]]}',
    ],
)
def test_a_damaged_list_of_pieces_is_refused(
    objects: Objects, source: Path, tmp_path: Path, listed: bytes
) -> None:
    model = model_of(source)
    push_files(objects, model, source, piece_bytes=PIECE)
    (name,) = (name for name in objects.names("files/") if name.endswith(".pieces"))
    objects.delete(name)
    objects.write(name, [listed])
    with pytest.raises(InferenceError, match="damaged"):
        pull_files(objects, model, tmp_path / "here")
    push_files(objects, model, source, piece_bytes=PIECE)  # which heals it
    pull_files(objects, model, tmp_path / "here")


@pytest.mark.parametrize(
    "path",
    [
        "../../x.json", "/etc/x.json", "a/../../x.json", "a//x.json", "./x.json", "a\\..\\x.json", "C:/x.json", "",
        "a/ /x.json", "x.json\n", ".. /x.json", "\x00.json",
    ],
)  # fmt: skip
def test_a_path_that_leaves_the_folder_is_refused(
    objects: Objects, source: Path, tmp_path: Path, path: str
) -> None:
    with pytest.raises(InferenceError, match="leave its folder"):
        confined(path)
    model = model_of(source)
    push_files(objects, model, source)
    escaping = with_files(model, replace(model.files[0], path=path))
    with pytest.raises(InferenceError, match="leave its folder"):
        pull_files(objects, escaping, tmp_path / "here")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.joblib", "pytorch_model.bin", "modeling.py", "x", "run.sh"]
)
def test_what_may_run_code_is_neither_pushed_nor_pulled(
    objects: Objects, source: Path, tmp_path: Path, name: str
) -> None:
    (source / name).write_bytes(b"\x80\x04.")
    model = model_of(source)
    with pytest.raises(InferenceError, match="can hold code"):
        push_files(objects, model, source)
    assert list(objects.names("files/")) == []
    with pytest.raises(InferenceError, match="can hold code"):
        pull_files(objects, model, tmp_path / "here")


def test_a_list_of_files_that_was_changed_is_refused(objects: Objects, source: Path, tmp_path: Path) -> None:
    model = model_of(source)
    push_files(objects, model, source)
    with pytest.raises(InferenceError, match="not the one that its digest was made of"):
        pull_files(objects, replace(model, files=model.files[:-1]), tmp_path / "here")


def test_a_file_that_changed_since_it_was_added_is_not_pushed(
    objects: Objects, source: Path, tmp_path: Path
) -> None:
    model = model_of(source)
    weights = source / "model.safetensors"
    for content in (os.urandom(weights.stat().st_size), b"shorter"):
        weights.write_bytes(content)
        for piece_bytes in (PIECE, 64 << 20):
            with pytest.raises(InferenceError, match="not the one that the catalog names"):
                push_files(objects, model, source, piece_bytes=piece_bytes)
    with pytest.raises(ModelNotAvailableError):
        pull_files(objects, model, tmp_path / "here")


def test_a_full_disk_is_one_sentence(
    objects: Objects, source: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    import errno

    model = model_of(source)
    push_files(objects, model, source)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ModelNotAvailableError, match=r"disk is full.*goes on where it stopped"):
        pull_files(objects, model, tmp_path / "here")


def test_several_who_push_the_same_do_no_harm(objects: Objects, source: Path, tmp_path: Path) -> None:
    model = model_of(source)
    failed: list[BaseException] = []

    def push() -> None:
        try:
            push_files(objects, model, source, piece_bytes=PIECE)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failed.append(error)

    threads = [threading.Thread(target=push) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    pull_files(objects, model, tmp_path / "here")
    assert same(source, tmp_path / "here")


def test_progress_tells_bytes_and_rate(objects: Objects, source: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(meter, "_SECONDS_BETWEEN_REPORTS", 0)
    said: list[tuple[str, float | None]] = []
    push_files(objects, model_of(source), source, progress=lambda line, part: said.append((line, part)))
    assert said[-1][1] == 1
    assert "Pushing m: 3.0 KiB of 3.0 KiB" in said[-1][0]
    assert said[-1][0].endswith("/s")
