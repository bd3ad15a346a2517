"""Whatever is done to journals, logs, checkpoints and published rows, verify finds it and names the session."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import trail_attacks
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.audit.sealing import SessionLog
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.merkle import consistency_proof
from jupyter_llmops.audit.tlog.note import parse_note
from jupyter_llmops.audit.verification import KeptCheckpoint, TrustedKeys, verify
from jupyter_llmops.audit.verification.heads import said_root
from jupyter_llmops.keys.signing import LogKeys, witness_name
from jupyter_llmops.records.run import Verification
from jupyter_llmops.records.trail import Cosignature, Head, Signer
from soak import SoakScale
from trail_attacks import ATTACKS, CLEVER, PLANTED, World

NOW = datetime(2026, 11, 3, tzinfo=UTC)
SIZES = {"s0": (3, 7), "s1": (5, 12, 20), "s2": (100, 256, 300)}


@pytest.fixture(scope="module")
def keys() -> LogKeys:
    return LogKeys(
        Ed25519PrivateKey.from_private_bytes(b"L" * 32), Ed25519PrivateKey.from_private_bytes(b"W" * 32)
    )


@pytest.fixture(scope="module")
def trusted(keys: LogKeys) -> TrustedKeys:
    other = LogKeys(Ed25519PrivateKey.from_private_bytes(b"l" * 32), bob())
    second = LogKeys(Ed25519PrivateKey.from_private_bytes(trail_attacks.SECOND_KEY), bob())
    signers = (
        Signer("log", "x", keys.log_vkey("ada", "here"), "ada", "here", NOW),
        Signer("witness", "x", keys.witness_vkey("ada", "here"), "ada", "here", NOW),
        Signer("log", "x", other.log_vkey("bob", "there"), "bob", "there", NOW),
        Signer("witness", "x", other.witness_vkey("bob", "there"), "bob", "there", NOW),
        Signer("log", "x", second.log_vkey("ada", "here"), "ada", "here", NOW),
    )
    return TrustedKeys("ada", "here", (keys.log_public, keys.witness_public), signers)


def bob() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(b"w" * 32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, keys: LogKeys, trusted: TrustedKeys) -> World:
    """Three sessions, sealed and published several times, each witnessed but for its last head."""
    folder = tmp_path_factory.mktemp("trail") / "audit"
    world = World({}, {}, [], [], b"L" * 32)
    for session, sizes in SIZES.items():
        journal = Journal(folder, session=session, context={"user": "ada", "host": "here"})
        log = SessionLog(folder, session, keys)
        before = 0
        for size in sizes:
            while journal.stamped < size:
                content = {"source": f"x = {journal.stamped}"} if journal.stamped % 3 else {}
                journal.stamp("cell", fields={"notebook": "ä.ipynb"}, content=content)
            signed, data = log.seal(), log.tiles.read_checkpoint()
            assert signed is not None
            assert data is not None
            assert signed.size == size
            proof = consistency_proof(before, size, log.tiles.hash_at)
            head = Head(
                session, size, said_root(signed.root), data.decode(), "ada", "here",
                NOW + timedelta(seconds=size), before, tuple(said_root(one) for one in proof),
            )  # fmt: skip
            world.heads.append(dataclasses.asdict(head) | {"consistency": list(head.consistency)})
            world.checkpoints.setdefault(session, []).append(data)
            if size != sizes[-1]:
                line = cosign(signed.text, witness_name("bob", "there"), bob(), 1_700_000_000 + size).line
                lines = f"{parse_note(data).signatures[0].line}\n{line}"
                row = Cosignature(session, size, head.root, witness_name("bob", "there"), lines, NOW)
                world.cosignatures.append(dataclasses.asdict(row))
            before = size
        world.published[session] = set(sizes)
        if session == "s1":  # its process was killed
            journal._files.forget()
            journal._stop.set()
        else:
            journal.close()
    for path in list_journals(folder):
        world.runs[path.stem] = {run.seq: run.leaf_digest for run in read_runs(path)}
    for path in folder.rglob("*"):
        if path.is_file():
            world.files[path.relative_to(folder).as_posix()] = path.read_bytes()
    found = check(folder, world, trusted)
    assert found.ok, found.problems
    assert found.witnessed == 3 + 12 + 256
    assert found.witnesses == ("bob@there",)
    return world


def check(
    folder: Path,
    world: World,
    trusted: TrustedKeys,
    *,
    rows: bool = True,
    kept: tuple[KeptCheckpoint, ...] = (),
) -> Verification:
    heads = [Head(**row | {"consistency": tuple(row["consistency"])}) for row in world.heads]
    return verify(
        folder,
        published=world.runs if rows else {},
        trusted=trusted,
        heads=heads if rows else (),
        cosignatures=[Cosignature(**row) for row in world.cosignatures] if rows else (),
        against=kept,
        published_heads=world.published if rows else {},
    )


def write(folder: Path, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    for name in before.keys() - after.keys():
        (folder / name).unlink()
    for name, data in after.items():
        if before.get(name) != data:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    for name in before.keys() - after.keys():  # an empty folder is nothing of a session
        place = (folder / name).parent
        while place != folder and (not place.exists() or not any(place.iterdir())):
            if place.exists():
                place.rmdir()
            place = place.parent


def test_every_attack_is_found(
    tmp_path: Path, world: World, trusted: TrustedKeys, soak_scale: SoakScale
) -> None:
    folder = tmp_path / "audit"
    write(folder, {}, world.files)
    names = sorted(ATTACKS)
    missed = []
    for seed in soak_scale.cases(sample=4 * len(names), full=10_000):
        name = names[seed % len(names)]
        chance = random.Random(seed)
        attacked = world.copy()
        session = ATTACKS[name](chance, attacked)
        while attacked == world:
            session = ATTACKS[name](chance, attacked)
        write(folder, world.files, attacked.files)
        found = check(folder, attacked, trusted)
        if found.ok or not any(problem.session == session for problem in found.problems):
            missed.append((seed, name, session, found.problems))
        write(folder, attacked.files, world.files)
    assert not missed, missed[:3]
    assert check(folder, world, trusted).ok


def test_what_nobody_signed_is_noted_and_accuses_nobody(
    tmp_path: Path, world: World, trusted: TrustedKeys, soak_scale: SoakScale
) -> None:
    """Rows that whoever may write to the catalog can plant there or spoil, of heads that are there as well."""
    folder = tmp_path / "audit"
    write(folder, {}, world.files)
    names = sorted(PLANTED)
    for seed in soak_scale.cases(sample=6 * len(names), full=400):
        attacked = world.copy()
        session = PLANTED[names[seed % len(names)]](random.Random(seed), attacked)
        found = check(folder, attacked, trusted)
        assert found.ok, (seed, found.problems)
        assert any(f"session {session}: 1 row of" in note for note in found.notes), (seed, found.notes)
        assert found.witnessed <= 3 + 12 + 256
    # Nor does a head of a session that nobody knows, in this user's name.
    attacked = world.copy()
    attacked.heads.append(attacked.heads[0] | {"session": "unheard-of"})
    assert check(folder, attacked, trusted).ok


def test_an_owner_with_all_keys_is_found_by_one_kept_checkpoint(
    tmp_path: Path, world: World, trusted: TrustedKeys, soak_scale: SoakScale
) -> None:
    """Every row of the catalog is gone or made anew; somebody kept the witnessed checkpoint, or its proof."""
    folder = tmp_path / "audit"
    write(folder, {}, world.files)
    names = sorted(CLEVER)
    missed = []
    for seed in soak_scale.cases(sample=8 * len(names), full=2_000):
        chance = random.Random(seed)
        attacked = world.copy()
        session = CLEVER[names[seed % len(names)]](chance, attacked)
        size = trail_attacks.witnessed_size(world, session)
        data = world.checkpoints[session][SIZES[session].index(size)]
        write(folder, world.files, attacked.files)
        unaware = check(folder, attacked, trusted, rows=False)
        found = check(folder, attacked, trusted, rows=False, kept=(KeptCheckpoint(session, data, "kept"),))
        if not unaware.ok:  # else something besides the kept checkpoint has told
            missed.append((seed, "told without it", unaware.problems))
        if not any(problem.session == session and "kept" in problem.message for problem in found.problems):
            missed.append((seed, session, found.problems))
        write(folder, attacked.files, world.files)
    assert not missed, missed[:3]


def test_a_session_that_only_a_witness_remembers(tmp_path: Path, world: World, trusted: TrustedKeys) -> None:
    attacked = world.copy()
    session = trail_attacks.clever_removal(random.Random(1), attacked)
    write(tmp_path / "audit", {}, attacked.files)
    kept = KeptCheckpoint(session, world.checkpoints[session][0], "kept")
    found = check(tmp_path / "audit", attacked, trusted, kept=(kept,))
    assert any(session == problem.session and "missing" in problem.message for problem in found.problems)


def test_what_was_not_signed_by_this_log_proves_nothing(
    tmp_path: Path, world: World, trusted: TrustedKeys
) -> None:
    write(tmp_path / "audit", {}, world.files)
    text = parse_note(world.checkpoints["s0"][0]).text
    assert text.startswith("jupyter-llmops/s0\n3\n")
    forged = trail_attacks.sign("s0", [b"x" * 32] * 3, b"?" * 32)
    found = check(tmp_path / "audit", world, trusted, kept=(KeptCheckpoint("s0", forged, "forged"),))
    assert ["proves nothing" in problem.message for problem in found.problems] == [True]


def test_the_owners_own_witness_does_not_count(tmp_path: Path, world: World, keys: LogKeys) -> None:
    """Named as somebody else's, too: the key is the owner's all the same."""
    write(tmp_path / "audit", {}, world.files)
    own = keys.witness_vkey("bob", "there")
    trusted = TrustedKeys(
        "ada",
        "here",
        (keys.log_public, keys.witness_public),
        (Signer("witness", "x", own, "bob", "there", NOW),),
    )
    mine = world.copy()
    for row in mine.cosignatures:
        text = f"jupyter-llmops/{row['session']}\n{row['size']}\n{row['root']}\n"
        row["line"] = cosign(text, witness_name("bob", "there"), keys.witness, 1).line
    found = check(tmp_path / "audit", mine, trusted)
    assert found.ok, found.problems
    assert found.witnessed == 0
    assert any("unwitnessed" in note for note in found.notes)


def test_a_key_that_is_named_for_several_people_is_one_witness(
    tmp_path: Path, world: World, trusted: TrustedKeys
) -> None:
    """Whoever has the team's key can neither silence a witness by it nor make two of one."""
    write(tmp_path / "audit", {}, world.files)
    his = LogKeys(bob(), bob())
    for user, host in (("ada", "here"), ("carol", "away")):
        named = Signer("witness", "x", his.witness_vkey(user, host), user, host, NOW)
        found = check(
            tmp_path / "audit", world, dataclasses.replace(trusted, signers=(named, *trusted.signers))
        )
        assert found.ok, found.problems
        assert found.witnessed == 3 + 12 + 256
        assert len(found.witnesses) == 1
        assert any("one witness key is named as that of bob@there" in note for note in found.notes)
    # A name that does not agree with the key's own says nothing.
    named = Signer("witness", "x", his.witness_vkey("bob", "there"), "carol", "away", NOW)
    found = check(tmp_path / "audit", world, dataclasses.replace(trusted, signers=(named, *trusted.signers)))
    assert found.witnesses == ("bob@there",)


def test_an_old_cosignature_counts_beside_a_signed_head_only(
    tmp_path: Path, world: World, trusted: TrustedKeys
) -> None:
    write(tmp_path / "audit", {}, world.files)
    old = world.copy()
    for row in old.cosignatures:
        row["line"] = row["line"].split("\n")[-1]
    assert check(tmp_path / "audit", old, trusted).witnessed == 3 + 12 + 256
    old.heads, old.published = [], {}
    found = check(tmp_path / "audit", old, trusted)
    assert found.ok, found.problems
    assert not found.witnessed


def test_the_attacks_know_nothing_of_the_package() -> None:
    code = (
        "import sys, trail_attacks; sys.exit(any(name.startswith('jupyter_llmops') for name in sys.modules))"
    )
    place = Path(trail_attacks.__file__)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place.parent, timeout=60)
    assert "jupyter_llmops" not in place.read_text("utf-8")
