"""Our logs before an independent implementation of the same specifications, aics-tlog, and its logs before ours.

It needs a Python of 3.12 or newer and an environment of its own, which is made in build/tlog-verifier once.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import other_tlog_environment
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.sealing import log_folder, seal
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.cosignature import cosign, verify_cosignature
from jupyter_llmops.audit.tlog.merkle import consistency_proof, inclusion_proof
from jupyter_llmops.audit.tlog.note import Note, format_note, parse_note, sign_note, verify_note, vkey
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.keys.signing import LogKeys

ORIGIN = "jupyter-llmops/20261122T101112Z-0123abcd"
WITNESS_NAME = "jupyter-llmops/grace%20h@lab-7"
LOG_SECRET, WITNESS_SECRET = b"l" * 32, b"w" * 32
LOG = Ed25519PrivateKey.from_private_bytes(LOG_SECRET)
WITNESS = Ed25519PrivateKey.from_private_bytes(WITNESS_SECRET)
LOG_VKEY = vkey(ORIGIN, LOG.public_key())
WITNESS_VKEY = vkey(WITNESS_NAME, WITNESS.public_key(), 4)
TIME = 1_790_000_000

Other = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def other(repository: Path) -> Other:
    try:
        python = other_tlog_environment.other_python(repository / "build")
    except other_tlog_environment.NotHereError as error:
        pytest.skip(str(error))

    def ask(do: str, **request: Any) -> dict[str, Any]:
        command = [str(python), "-I", str(repository / "tests" / "other_tlog.py")]
        done = subprocess.run(
            command, input=json.dumps({"do": do, **request}), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    return ask


def lines(start: int, stop: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(start, stop)]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sign(store: TileStore, size: int) -> None:
    note = sign_note(Checkpoint(ORIGIN, size, store.root(size)).text, ORIGIN, LOG)
    cosigned = Note(note.text, (*note.signatures, cosign(note.text, WITNESS_NAME, WITNESS, TIME)))
    store.write_checkpoint(format_note(cosigned))


def grown(folder: Path, sizes: list[int]) -> TileStore:
    store = TileStore(folder, sync=False)
    for size in sizes:
        store = TileStore(folder, sync=False)
        store.append(lines(store.size(), size))
        sign(store, size)
    return store


def files(folder: Path) -> dict[str, bytes]:
    found = folder.rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


@pytest.mark.parametrize(
    "sizes",
    [[1], [1, 2, 3], [255], [200, 256], [256, 257], [100, 300, 700], [65_535, 65_536, 65_537, 66_000]],
)
def test_it_accepts_our_logs_with_every_proof(tmp_path: Path, other: Other, sizes: list[int]) -> None:
    store = grown(tmp_path / "log", sizes)
    size = sizes[-1]
    indexes = sorted({0, size // 2, size - 1, 255 % size, 256 % size, 65_535 % size})
    found = other(
        "check",
        folder=str(tmp_path / "log"),
        log_vkey=LOG_VKEY,
        witness_vkeys=[WITNESS_VKEY],
        inclusions=[
            (
                index,
                text(b"leaf %d" % index),
                [text(one) for one in inclusion_proof(index, size, store.hash_at)],
            )
            for index in indexes
        ],
        consistencies=[
            (old, text(store.root(old)), [text(one) for one in consistency_proof(old, size, store.hash_at)])
            for old in [0, *sizes, *indexes]
        ],
    )
    assert found.get("refused") is None
    assert found["size"] == size
    assert found["bundles"] == -(-size // 256)


def test_it_accepts_a_session_as_it_was_sealed(tmp_path: Path, other: Other) -> None:
    journal = Journal(tmp_path / "audit", context={"user": "ada", "host": "lab"})
    keys = LogKeys.load(tmp_path / "keys")
    for number in range(300):
        journal.stamp("cell", fields={"execution_count": number}, content={"source": f"x = {number}"})
        if number in {99, 299}:
            journal.flush()
            seal(tmp_path / "audit", journal.session, keys)
    journal.close()
    found = other(
        "check",
        folder=str(log_folder(tmp_path / "audit", journal.session)),
        log_vkey=keys.session_vkey(journal.session),
        witness_vkeys=[],
        inclusions=[],
        consistencies=[],
    )
    assert found == {"size": 301, "tiles": 3, "bundles": 2}


def test_it_refuses_what_was_touched(tmp_path: Path, other: Other) -> None:
    """Without this one could not tell whether it looks at all."""
    grown(tmp_path / "log", [700])
    touched = {
        "checkpoint": "checkpoint",
        "tile/0/001": "tiles",
        "tile/1/000.p/2": "tiles",
        "tile/entries/002.p/188": "tiles",
    }
    for path, reason in touched.items():
        folder = tmp_path / path.replace("/", "-")
        shutil.copytree(tmp_path / "log", folder)
        data = bytearray((folder / path).read_bytes())
        data[len(ORIGIN) + 3] ^= 1
        (folder / path).write_bytes(data)
        found = other(
            "check", folder=str(folder), log_vkey=LOG_VKEY, witness_vkeys=[WITNESS_VKEY],
            inclusions=[], consistencies=[],
        )  # fmt: skip
        assert str(found.get("refused")).startswith(reason), path
    found = other(
        "check", folder=str(tmp_path / "log"), log_vkey=vkey(ORIGIN, WITNESS.public_key()), witness_vkeys=[],
        inclusions=[], consistencies=[],
    )  # fmt: skip
    assert str(found.get("refused")).startswith("checkpoint")


@pytest.mark.parametrize("portions", [[1], [256], [100, 156, 1], [3, 252, 500, 1], [66_000]])
def test_its_logs_are_ours_byte_for_byte(tmp_path: Path, other: Other, portions: list[int]) -> None:
    theirs = tmp_path / "theirs"
    size = sum(portions)
    said = other(
        "write", folder=str(theirs), origin=ORIGIN, portions=portions, log_key=text(LOG_SECRET),
        witness_name=WITNESS_NAME, witness_key=text(WITNESS_SECRET), timestamp=TIME,
    )  # fmt: skip
    assert (said["log_vkey"], said["witness_vkey"]) == (LOG_VKEY, WITNESS_VKEY)
    store = TileStore(theirs, sync=False)
    assert store.size() == size
    assert list(store.entries(0, size)) == lines(0, size)
    assert text(store.root()) == said["root"]
    data = store.read_checkpoint()
    assert data is not None
    note = parse_note(data)
    assert verify_note(note, [LOG_VKEY, WITNESS_VKEY]) == (ORIGIN, WITNESS_NAME)
    assert parse_checkpoint(note.text) == Checkpoint(ORIGIN, size, store.root())
    assert verify_cosignature(note.text, note.signatures[1], WITNESS_VKEY) == TIME
    sign(store, size)  # removes the partial tiles of former sizes, which it keeps
    sign(store, size)
    grown(tmp_path / "ours", [size])
    assert files(theirs) == files(tmp_path / "ours")
    # And we go on where it stopped.
    assert store.append(lines(size, size + 300)) == size + 300
    assert store.root() == grown(tmp_path / "further", [size + 300]).root()
