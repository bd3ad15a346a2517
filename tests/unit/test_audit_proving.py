"""Proofs of single runs: what they say to somebody who has nothing of ours, and when none is given."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_llmops.audit import check_proof
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.proving import prove
from jupyter_llmops.audit.reading import parse_run, read_runs
from jupyter_llmops.audit.sealing import log_folder, origin_of, seal
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.merkle import leaf_hash
from jupyter_llmops.audit.tlog.note import format_note, parse_note, sign_note
from jupyter_llmops.audit.tlog.proof import InclusionProof, format_proof, parse_proof
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.signing import LogKeys, verifier_key
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.trail import Cosignature, Head

MOMENT = datetime(2026, 11, 22, tzinfo=UTC)
WITNESSES = {f"jupyter-llmops/{name}@lab": Ed25519PrivateKey.generate() for name in ("grace", "joan", "mary")}


class Sealed:
    """A session of 40 runs that was sealed after 20 and after all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "audit"
        self.keys = LogKeys.load(folder / "keys")
        journal = Journal(self.folder, context={"user": "ada", "host": "lab"})
        self.session = journal.session
        self.heads: list[Head] = []
        for number in range(39):
            journal.stamp("cell", fields={"execution_count": number}, content={"source": f"x = {number}"})
            if number in {18, 38}:
                journal.flush()
                checkpoint = seal(self.folder, self.session, self.keys)
                assert checkpoint is not None
                self.heads.append(self.head(checkpoint))
        journal.close()
        self.runs = list(read_runs(journal_path(self.folder, self.session)))
        self.vkey = self.keys.session_vkey(self.session)

    def head(self, checkpoint: Checkpoint) -> Head:
        data = TileStore(log_folder(self.folder, self.session)).read_checkpoint()
        assert data is not None
        root = base64.b64encode(checkpoint.root).decode()
        return Head(self.session, checkpoint.size, root, data.decode(), "ada", "lab", MOMENT)

    def cosigned(self, head: Head, name: str) -> Cosignature:
        text = head.checkpoint.partition("\n\n")[0] + "\n"
        own = parse_note(head.checkpoint).signatures[0].line
        line = f"{own}\n{cosign(text, name, WITNESSES[name], 1_790_000_000).line}"
        return Cosignature(head.session, head.size, head.root, name, line, MOMENT)

    def prove(self, run: Run, *cosignatures: Cosignature, heads: tuple[Head, ...] | None = None) -> bytes:
        known = [
            verifier_key(name, key.public_key().public_bytes_raw(), 4) for name, key in WITNESSES.items()
        ]
        return prove(
            self.folder, run, [self.vkey], heads=self.heads if heads is None else heads,
            cosignatures=cosignatures, witnesses=known,
        )  # fmt: skip

    def checked(self, data: bytes) -> dict:
        known = [
            verifier_key(name, key.public_key().public_bytes_raw(), 4) for name, key in WITNESSES.items()
        ]
        return check_proof.check(data, self.vkey, tuple(known))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return Sealed(tmp_path_factory.mktemp("sealed"))


def test_every_run_is_proven_to_a_checker_that_has_nothing_of_ours(sealed: Sealed) -> None:
    assert len(sealed.runs) == 40
    for run in sealed.runs:
        found = sealed.checked(sealed.prove(run))
        assert found["leaf"] == run.leaf
        assert (found["index"], found["size"], found["origin"]) == (run.seq, 40, origin_of(sealed.session))
        assert found["witnesses"] == {}


def test_the_head_that_most_witnesses_signed_is_taken(sealed: Sealed) -> None:
    older, newer = sealed.heads
    grace, joan, mary = WITNESSES
    one_newer = sealed.cosigned(newer, grace)
    two_older = [sealed.cosigned(older, joan), sealed.cosigned(older, mary)]
    run = sealed.runs[3]
    assert sealed.checked(sealed.prove(run, one_newer))["witnesses"] == {grace: 1_790_000_000}
    found = sealed.checked(sealed.prove(run, one_newer, *two_older))
    assert (found["size"], set(found["witnesses"])) == (20, {joan, mary})
    # A run after that head is proven under the newer one.
    found = sealed.checked(sealed.prove(sealed.runs[25], one_newer, *two_older))
    assert (found["size"], set(found["witnesses"])) == (40, {grace})


def test_what_the_catalog_says_falsely_is_left_out(sealed: Sealed) -> None:
    newer = sealed.heads[1]
    grace, joan, _ = WITNESSES
    true = sealed.cosigned(newer, grace)
    foreign = replace(true, line=true.line.replace("grace", "joan"))
    broken = replace(true, line="rubbish")
    stranger = sign_note(
        newer.checkpoint.partition("\n\n")[0] + "\n", origin_of(sealed.session), WITNESSES[joan]
    )
    planted = replace(newer, checkpoint=format_note(stranger).decode())
    text = Checkpoint(origin_of(sealed.session), 41, b"r" * 32).text
    beyond = replace(
        newer, size=41, root=base64.b64encode(b"r" * 32).decode(),
        checkpoint=format_note(sign_note(text, origin_of(sealed.session), sealed.keys.log)).decode(),
    )  # fmt: skip
    unread = replace(newer, checkpoint="rubbish")
    # A fork that the log itself has signed is not the log that is here.
    text = Checkpoint(origin_of(sealed.session), 30, b"r" * 32).text
    fork = replace(
        beyond,
        size=30,
        checkpoint=format_note(sign_note(text, origin_of(sealed.session), sealed.keys.log)).decode(),
    )
    # And a true signature of another head.
    elsewhere = replace(true, line=sealed.cosigned(sealed.heads[0], joan).line)
    heads = (planted, beyond, fork, unread)
    rows = [
        foreign,
        broken,
        elsewhere,
        true,
        true,
        *(sealed.cosigned(one, name) for one in (beyond, fork) for name in WITNESSES),
    ]
    data = sealed.prove(sealed.runs[3], *rows, heads=heads)
    assert sealed.checked(data)["witnesses"] == {grace: 1_790_000_000}
    assert sealed.checked(data)["size"] == 40


def test_a_proof_among_4096_leaves_with_a_witness_is_a_kilobyte(tmp_path: Path) -> None:
    keys = LogKeys.load(tmp_path / "keys")
    session = "20261122T211500Z-0123abcd"
    store = TileStore(log_folder(tmp_path, session), sync=False)
    lines = [b'{"id":"%016x","schema":"llmops.leaf/2","seq":%d}' % (number, number) for number in range(4096)]
    store.append(lines)
    text = Checkpoint(origin_of(session), 4096, store.root()).text
    store.write_checkpoint(format_note(sign_note(text, origin_of(session), keys.log)))
    head = Head(
        session, 4096, text.split("\n")[2], (store.read_checkpoint() or b"").decode(), "ada", "lab", MOMENT
    )
    pattern = "jupyter-llmops/%s@laboratory-7"
    secrets = {pattern % name: Ed25519PrivateKey.generate() for name in ("grace", "joan", "mary")}
    rows = [
        Cosignature(session, 4096, head.root, name, cosign(text, name, key, 1).line, MOMENT)
        for name, key in secrets.items()
    ]
    vkey = keys.session_vkey(session)
    witnesses = tuple(
        verifier_key(name, key.public_key().public_bytes_raw(), 4) for name, key in secrets.items()
    )
    for index in (0, 2047, 4095):
        run = parse_run(lines[index], session, index)
        assert run is not None
        for count in (1, 3):  # a third one would not fit
            data = prove(
                tmp_path, run, [vkey], heads=[head], cosignatures=rows[:count], witnesses=witnesses[:count]
            )
            assert 1 <= len(check_proof.check(data, vkey, witnesses)["witnesses"]) < 3
            bare = replace(parse_proof(data), extra=None)
            assert len(bare.hashes) == 12
            assert len(format_proof(bare)) <= 1024


def test_where_there_is_room_all_witnesses_are_in_a_proof(sealed: Sealed) -> None:
    rows = [sealed.cosigned(sealed.heads[1], name) for name in WITNESSES]
    data = sealed.prove(sealed.runs[3], *rows)
    assert set(sealed.checked(data)["witnesses"]) == set(WITNESSES)
    assert len(format_proof(replace(parse_proof(data), extra=None))) <= 1024


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
def test_no_byte_of_a_proof_can_be_changed(sealed: Sealed, place: int, value: int) -> None:
    head = sealed.heads[1]
    original = sealed.prove(sealed.runs[7], sealed.cosigned(head, next(iter(WITNESSES))))
    changed = bytearray(original)
    changed[place % len(original)] = value
    try:
        found = sealed.checked(bytes(changed))
    except check_proof.RefusedError:
        return
    # Without the witness's line it proves the same run still.
    assert found["leaf"] == sealed.runs[7].leaf
    assert bytes(changed) == original or not found["witnesses"]


def test_the_checker_as_a_program(sealed: Sealed, tmp_path: Path) -> None:
    file = tmp_path / "run.tlog-proof"
    file.write_bytes(sealed.prove(sealed.runs[5]))
    command = [sys.executable, check_proof.__file__, str(file)]
    done = subprocess.run([*command, sealed.vkey], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Record 5 of 40" in done.stdout
    other = LogKeys.load(tmp_path / "keys").session_vkey(sealed.session)
    done = subprocess.run([*command, other], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "It proves nothing: its checkpoint is not signed by the log's key.\n"


def _proof_of(leaf: bytes, file: Path) -> str:
    """Write the proof of a log with one leaf of any bytes; return the key that signed it."""
    key = Ed25519PrivateKey.generate()
    name = origin_of("20260101T000000Z-00000000")
    checkpoint = format_note(sign_note(Checkpoint(name, 1, leaf_hash(leaf)).text, name, key))
    file.write_bytes(format_proof(InclusionProof(0, (), checkpoint, leaf)))
    return verifier_key(name, key.public_key().public_bytes_raw())


@pytest.mark.parametrize("leaf", [b"[]", b"7", b"{", b"[" * 5000, b"\xff"])
def test_a_leaf_that_is_no_record_is_refused_by_the_checker(leaf: bytes, tmp_path: Path) -> None:
    vkey = _proof_of(leaf, tmp_path / "x")
    with pytest.raises(check_proof.RefusedError, match="no record"):
        check_proof.check((tmp_path / "x").read_bytes(), vkey)


def test_the_checker_prints_no_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vkey = _proof_of(b'{"user":"ada\\u001b[2J\\nRecord 1 of 9","kind":7}', tmp_path / "x")
    monkeypatch.setattr(sys, "argv", ["check_proof.py", str(tmp_path / "x"), vkey])
    assert check_proof.main() == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "a 7 of ada\\x1b[2J\\nRecord 1 of 9@None" in shown


def test_the_checker_imports_nothing_of_ours() -> None:
    imports = [
        line for line in Path(check_proof.__file__).read_text().splitlines() if "import" in line.split(" ")
    ]
    assert not [line for line in imports if "llmops" in line]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": "20200101T000000Z-00000000"}, "not on this machine"), ({"session": ""}, "not on this machine"),
        ({"session": ".."}, "not on this machine"), ({"session": "../log"}, "not on this machine"),
        ({"seq": 40}, "not under a signed head yet"), ({"seq": -1}, "not under a signed head yet"),
        ({"seq": 8}, "is not the one"), ({"leaf_digest": "sha256:0"}, "is not the one"),
    ],
)  # fmt: skip
def test_what_is_not_in_a_log_is_not_proven(sealed: Sealed, change: dict, reason: str) -> None:
    with pytest.raises(AuditError, match=reason):
        sealed.prove(replace(sealed.runs[7], **change))


def test_a_head_of_another_key_proves_nothing(sealed: Sealed, tmp_path: Path) -> None:
    other = LogKeys.load(tmp_path).session_vkey(sealed.session)
    with pytest.raises(AuditError, match="under no head"):
        prove(sealed.folder, sealed.runs[7], [other])
