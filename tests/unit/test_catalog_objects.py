from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_llmops.catalog.objects import PIECE_BYTES, Objects, open_objects
from jupyter_llmops.errors import CatalogError, UsageError
from jupyter_llmops.location import Location
from s3_server import S3Bucket

NAME = "files/" + "0" * 64


@pytest.fixture(params=["folder", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return open_objects(Location.parse(tmp_path / "catalog"))
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return open_objects(bucket.location)


def test_what_is_written_is_read_and_stays(objects: Objects) -> None:
    assert (objects.exists(NAME), objects.size(NAME), list(objects.names("files/"))) == (False, None, [])
    content = os.urandom(PIECE_BYTES * 2 + 17)
    objects.write(NAME, (content[start : start + 70_000] for start in range(0, len(content), 70_000)))
    assert (objects.exists(NAME), objects.size(NAME)) == (True, len(content))
    pieces = list(objects.read(NAME))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES

    # Never overwritten; the other content is not even looked at.
    def other() -> Iterator[bytes]:
        raise AssertionError
        yield b""

    objects.write(NAME, other())
    assert objects.size(NAME) == len(content)

    objects.write("files/empty", [])
    assert objects.size("files/empty") == 0
    assert b"".join(objects.read("files/empty")) == b""
    objects.write("other/x", [b"1"])
    assert sorted(objects.names("files/")) == [NAME, "files/empty"]
    assert list(objects.names("files/e")) == ["files/empty"]
    objects.delete("files/empty")
    objects.delete("files/empty")
    assert list(objects.names("files/")) == [NAME]
    with pytest.raises(CatalogError, match="files/empty is not in the catalog"):
        list(objects.read("files/empty"))


@pytest.mark.parametrize("trouble", [ConnectionError, KeyboardInterrupt])
@pytest.mark.parametrize("size", [10, 12 << 20])  # before and after the first part of a bucket's upload
def test_what_is_cut_short_is_not_there(objects: Objects, trouble: type[BaseException], size: int) -> None:
    def cut_short() -> Iterator[bytes]:
        yield b"x" * size
        raise trouble

    try:
        objects.write(NAME, cut_short())
    except trouble:
        stopped = True
    assert stopped
    gc.collect()  # Arrow publishes what has come of an upload when its stream is freed
    assert not objects.exists(NAME)
    assert list(objects.names("files/")) == []
    if objects.location.folder is not None:
        assert [path for path in objects.location.folder.rglob("*") if path.is_file()] == []
    objects.write(NAME, [b"whole"])
    assert b"".join(objects.read(NAME)) == b"whole"


CUT_SHORT = """
import sys
from jupyter_llmops.catalog.objects import open_objects
from jupyter_llmops.location import Location

def chunks():
    yield b"x" * 100
    print("began", flush=True)
    raise ConnectionError("the line dropped")

open_objects(Location.parse(sys.argv[1])).write("files/x", chunks())
"""


def test_nothing_is_there_either_once_the_process_has_ended(s3_bucket: S3Bucket) -> None:
    # There Arrow would wait for ever for a stream that is freed.
    command = [sys.executable, "-c", CUT_SHORT, str(s3_bucket.location)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("began\n", 1)
    assert list(open_objects(s3_bucket.location).names("files/")) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../x",
        "files/../../x",
        "files//x",
        "files/",
        ".hidden",
        "a/.b",
        "a b",
        "a\\b",
        "a\x00",
        "é",
        "x" * 129,
        "x/" * 300 + "x",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(objects: Objects, name: str) -> None:
    for use in (
        lambda: objects.exists(name),
        lambda: list(objects.read(name)),
        lambda: objects.write(name, [b"1"]),
        lambda: objects.delete(name),
    ):
        with pytest.raises(UsageError, match="is not the name of a file"):
            use()


def test_listing_everything_is_refused(objects: Objects) -> None:
    for prefix in ("", "files"):
        with pytest.raises(UsageError, match="names no folder"):
            list(objects.names(prefix))


def test_a_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x").write_text("mine")
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "files").symlink_to(tmp_path / "secret")
    objects = open_objects(Location.parse(tmp_path / "catalog"))
    for use in (lambda: list(objects.read("files/x")), lambda: objects.write("files/y", [b"1"])):
        with pytest.raises(UsageError, match="outside of the catalog"):
            use()
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["x"]


def test_of_writers_at_once_one_content_stays(tmp_path: Path) -> None:
    objects, seen = open_objects(Location.parse(tmp_path)), []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        def chunks() -> Iterator[bytes]:
            start.wait()
            yield bytes([number]) * 50_000

        objects.write(NAME, chunks())
        seen.append(b"".join(objects.read(NAME)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert seen[0] in [bytes([number]) * 50_000 for number in range(8)]
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["0" * 64]


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    objects = open_objects(Location.parse(tmp_path))

    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(CatalogError, match=r"disk of the catalog in .* is full; nothing was written"):
        objects._written(Full(), b"x")  # type: ignore[attr-defined]
