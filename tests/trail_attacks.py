"""Attacks on a whole trail, by somebody who knows its formats and has its owner's keys; imports nothing of the package.

An attack is a function of a random generator and of a `World`, the files of an audit folder and the rows of
the catalog, which it changes in place. It returns the session that it touched. `journal_attacks` has those
on journals, heads and content alone; here are those on logs, checkpoints and published rows, and the ones of
the clever owner, who makes everything anew: the chain, the head, the tiles, the checkpoint, with the true key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import journal_attacks
from journal_attacks import Files

Row = dict[str, Any]
WIDTH = 256
SECOND_KEY = b"2" * 32
MOMENT = datetime(2026, 11, 3, tzinfo=UTC)


@dataclass
class World:
    """What an attacker can reach.

    Parameters
    ----------
    files : dict of path to bytes
        The audit folder.
    runs : dict of session to dict of seq to digest
        The catalog's rows of runs.
    heads, cosignatures : list of dict
        The catalog's rows of them.
    key : bytes
        The private key of the logs, 32 bytes.
    checkpoints : dict of session to list of bytes
        Checkpoints that the log has signed at some time, the oldest first.
    published : dict of session to set of int
        Sizes of the heads that the owner's home remembers to have published; only the owner reaches it.
    """

    files: Files
    runs: dict[str, dict[int, str]]
    heads: list[Row]
    cosignatures: list[Row]
    key: bytes
    checkpoints: dict[str, list[bytes]] = field(default_factory=dict)
    published: dict[str, set[int]] = field(default_factory=dict)

    def copy(self) -> World:
        return World(
            dict(self.files),
            {session: dict(rows) for session, rows in self.runs.items()},
            [dict(row) for row in self.heads],
            [dict(row) for row in self.cosignatures],
            self.key,
            self.checkpoints,
            {session: set(sizes) for session, sizes in self.published.items()},
        )


Attack = Callable[[random.Random, World], str]


# ------------------------------------------------------------------ a log, made anew


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(hashes[:half]) + root_of(hashes[half:])).digest()


def leaf_hashes(lines: list[bytes]) -> list[bytes]:
    return [hashlib.sha256(b"\x00" + line).digest() for line in lines]


def consistency(hashes: list[bytes], old: int) -> list[bytes]:
    """RFC 6962, section 2.1.2."""

    def sub(old: int, hashes: list[bytes], whole: bool) -> list[bytes]:
        if old == len(hashes):
            return [] if whole else [root_of(hashes)]
        half = 1 << (len(hashes) - 1).bit_length() - 1
        if old <= half:
            return [*sub(old, hashes[:half], whole), root_of(hashes[half:])]
        return [*sub(old - half, hashes[half:], False), root_of(hashes[:half])]

    return sub(old, hashes, True) if 0 < old < len(hashes) else []


def sign(session: str, hashes: list[bytes], key: bytes) -> bytes:
    """A C2SP checkpoint."""
    origin = f"jupyter-llmops/{session}"
    text = f"{origin}\n{len(hashes)}\n{base64.b64encode(root_of(hashes)).decode()}\n"
    private = Ed25519PrivateKey.from_private_bytes(key)
    material = b"\x01" + private.public_key().public_bytes_raw()
    key_id = hashlib.sha256(origin.encode() + b"\n" + material).digest()[:4]
    signature = base64.b64encode(key_id + private.sign(text.encode())).decode()
    return f"{text}\n— {origin} {signature}\n".encode()


def reseal(world: World, session: str, size: int | None = None) -> None:
    """Write the whole log of a session anew, from its journal, and sign it."""
    for name in [name for name in world.files if name.startswith(f"log/{session}/")]:
        del world.files[name]
    lines = world.files[f"journal/{session}.jsonl"].split(b"\n")[:-1][:size]
    hashes = leaf_hashes(lines)
    level, row = 0, hashes
    while row:
        for start in range(0, len(row), WIDTH):
            tile = row[start : start + WIDTH]
            world.files[_tile(session, str(level), start // WIDTH, len(tile))] = b"".join(tile)
        row = [root_of(row[start : start + WIDTH]) for start in range(0, len(row) // WIDTH * WIDTH, WIDTH)]
        level += 1
    for start in range(0, len(lines), WIDTH):
        bundle = lines[start : start + WIDTH]
        data = b"".join(len(line).to_bytes(2, "big") + line for line in bundle)
        world.files[_tile(session, "entries", start // WIDTH, len(bundle))] = data
    world.files[f"log/{session}/checkpoint"] = sign(session, hashes, world.key)


def _tile(session: str, level: str, index: int, width: int) -> str:
    return f"log/{session}/tile/{level}/{index:03d}" + ("" if width == WIDTH else f".p/{width}")


def republish(world: World, session: str) -> None:
    """Write the rows of runs and heads anew, as the log is now; what witnesses signed can't be."""
    lines = world.files[f"journal/{session}.jsonl"].split(b"\n")[:-1]
    hashes = leaf_hashes(lines)
    world.runs[session] = {
        seq: "sha256:" + hashlib.sha256(line).hexdigest() for seq, line in enumerate(lines)
    }
    heads = [row for row in world.heads if row["session"] == session]
    world.heads = [row for row in world.heads if row["session"] != session]
    before = 0
    for row in heads:
        size = min(row["size"], len(lines))
        if size == before:
            continue
        proof = [base64.b64encode(one).decode() for one in consistency(hashes[:size], before)]
        row |= {
            "size": size,
            "root": base64.b64encode(root_of(hashes[:size])).decode(),
            "checkpoint": sign(session, hashes[:size], world.key).decode(),
            "previous_size": before,
            "consistency": proof,
        }
        world.heads.append(row)
        before = size
    world.published[session] = {row["size"] for row in world.heads if row["session"] == session}


# ------------------------------------------------------------------ on the log's files


def _log_file(chance: random.Random, world: World, part: str = "") -> tuple[str, str]:
    names = sorted(name for name in world.files if name.startswith("log/") and part in name)
    name = chance.choice(names)
    return name, name.split("/")[1]


def edit_log_byte(chance: random.Random, world: World) -> str:
    name, session = _log_file(chance, world)
    data = bytearray(world.files[name])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    world.files[name] = bytes(data)
    return session


def edit_checkpoint(chance: random.Random, world: World) -> str:
    name, session = _log_file(chance, world, "/checkpoint")
    data = bytearray(world.files[name])
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    world.files[name] = bytes(data)
    return session


def cut_log_file(chance: random.Random, world: World) -> str:
    name, session = _log_file(chance, world)
    world.files[name] = world.files[name][: chance.randrange(len(world.files[name]))]
    return session


def delete_log_file(chance: random.Random, world: World) -> str:
    """One that a log of the signed size must have."""
    name, session = _log_file(chance, world, "/tile/")
    if ".p/" in name:
        # The narrower ones may go once a wider one is there.
        name = max(
            (one for one in world.files if one.startswith(name.rsplit("/", 1)[0] + "/")),
            key=lambda one: int(one.rsplit("/", 1)[1]),
        )
    del world.files[name]
    return session


def delete_checkpoint(chance: random.Random, world: World) -> str:
    name, session = _log_file(chance, world, "/checkpoint")
    del world.files[name]
    return session


def delete_log(chance: random.Random, world: World) -> str:
    _, session = _log_file(chance, world)
    for name in [name for name in world.files if name.startswith(f"log/{session}/")]:
        del world.files[name]
    return session


def old_checkpoint(chance: random.Random, world: World) -> str:
    """Bring back a checkpoint that was signed earlier."""
    session = chance.choice(sorted(name for name, old in world.checkpoints.items() if len(old) > 1))
    world.files[f"log/{session}/checkpoint"] = chance.choice(world.checkpoints[session][:-1])
    return session


def swap_checkpoints(chance: random.Random, world: World) -> str:
    one, other = chance.sample(sorted(name for name in world.files if name.endswith("/checkpoint")), 2)
    world.files[one], world.files[other] = world.files[other], world.files[one]
    return one.split("/")[1]


def foreign_signature(chance: random.Random, world: World) -> str:
    """The right checkpoint, signed with another key."""
    name, session = _log_file(chance, world, "/checkpoint")
    lines = world.files[f"journal/{session}.jsonl"].split(b"\n")[:-1]
    world.files[name] = sign(session, leaf_hashes(lines), chance.randbytes(32))
    return session


def sign_more(chance: random.Random, world: World) -> str:
    """A log that holds, and has signed, a record more than the journal."""
    session = chance.choice(sorted(world.checkpoints))
    path = f"journal/{session}.jsonl"
    before = world.files[path]
    world.files[path] += before.split(b"\n")[-2] + b"\n"
    reseal(world, session)
    world.files[path] = before
    return session


def other_tree(chance: random.Random, world: World) -> str:
    """A whole log of other records, signed, beside the journal as it is."""
    session, before = _rewritten(chance, world, chance.choice(RECORD_FAULTS))
    changed = {name: data for name, data in world.files.items() if name.startswith(f"log/{session}/")}
    world.files.clear()
    world.files.update(
        {name: data for name, data in before.items() if not name.startswith(f"log/{session}/")}
    )
    world.files.update(changed)
    return session


def add_log_file(chance: random.Random, world: World) -> str:
    _, session = _log_file(chance, world)
    name = chance.choice(
        ["tile/0/999", "tile/entries/x001/000", "tile/9/000", "notes.txt", "tile/0/000.p/256"]
    )
    world.files[f"log/{session}/{name}"] = chance.randbytes(64)
    return session


# ------------------------------------------------------------------ on published rows


def edit_head_row(chance: random.Random, world: World) -> str:
    row = chance.choice(world.heads)
    column = chance.choice(["size", "root", "checkpoint", "consistency", "previous_size"])
    if column in ("size", "previous_size"):
        row[column] += chance.choice([1, 1000])
    elif column == "consistency":
        row[column] = [base64.b64encode(chance.randbytes(32)).decode()]
    else:
        place = chance.randrange(len(row[column]))
        row[column] = (
            row[column][:place] + ("A" if row[column][place] != "A" else "B") + row[column][place + 1 :]
        )
    return str(row["session"])


def delete_head_row(chance: random.Random, world: World) -> str:
    row = chance.choice(world.heads)
    world.heads.remove(row)
    return str(row["session"])


def plant_head_row(chance: random.Random, world: World) -> str:
    """A head that another key has signed, under the name of a session."""
    row = dict(chance.choice(world.heads))
    hashes = [chance.randbytes(32) for _ in range(row["size"])]
    row["root"] = base64.b64encode(root_of(hashes)).decode()
    row["checkpoint"] = sign(row["session"], hashes, chance.randbytes(32)).decode()
    world.heads.append(row)
    return str(row["session"])


def fork_head_row(chance: random.Random, world: World) -> str:
    """A second head of one size, with the true key: what a log shows to somebody else."""
    row = dict(chance.choice(world.heads))
    hashes = [chance.randbytes(32) for _ in range(row["size"])]
    row["root"] = base64.b64encode(root_of(hashes)).decode()
    row["checkpoint"] = sign(row["session"], hashes, world.key).decode()
    world.heads.append(row)
    return str(row["session"])


def move_head_row(chance: random.Random, world: World) -> str:
    one, other = chance.sample(sorted(world.runs), 2)
    row = dict(chance.choice([row for row in world.heads if row["session"] == one]))
    row["session"] = other
    world.heads.append(row)
    return other


def edit_cosignature_row(chance: random.Random, world: World) -> str:
    row = chance.choice(world.cosignatures)
    way = chance.randrange(3)
    if way == 0:
        row["size"] += 1
    elif way == 1:
        row["root"] = base64.b64encode(chance.randbytes(32)).decode()
    else:
        lines = row["line"].split("\n")
        number = chance.randrange(len(lines))
        dash, name, data = lines[number].split(" ")
        raw = bytearray(base64.b64decode(data))
        raw[chance.randrange(4, len(raw))] ^= 1 << chance.randrange(8)
        lines[number] = f"{dash} {name} {base64.b64encode(bytes(raw)).decode()}"
        row["line"] = "\n".join(lines)
    return str(row["session"])


def move_cosignature_row(chance: random.Random, world: World) -> str:
    row = dict(chance.choice(world.cosignatures))
    row["session"] = chance.choice([name for name in sorted(world.runs) if name != row["session"]])
    world.cosignatures.append(row)
    return str(row["session"])


def edit_run_row(chance: random.Random, world: World) -> str:
    session = chance.choice(sorted(world.runs))
    rows = world.runs[session]
    seq = chance.choice(sorted(rows))
    if chance.random() < 0.5:
        rows[seq] = "sha256:" + chance.randbytes(32).hex()
    else:
        rows[max(rows) + 1] = rows.pop(seq)
    return session


# ------------------------------------------------------------------ the clever owner

RecordFault = Callable[[random.Random, list[bytes], int], list[bytes]]


def _edited(chance: random.Random, lines: list[bytes], limit: int) -> list[bytes]:
    number = chance.randrange(limit)
    leaf = json.loads(lines[number])
    leaf[chance.choice(["status", "user", "started_at", "host"])] = "other"
    return [*lines[:number], journal_attacks._canonical(leaf), *lines[number + 1 :]]


def _deleted(chance: random.Random, lines: list[bytes], limit: int) -> list[bytes]:
    number = chance.randrange(1, limit)
    return [*lines[:number], *lines[number + 1 :]]


def _inserted(chance: random.Random, lines: list[bytes], limit: int) -> list[bytes]:
    number = chance.randrange(1, limit)
    leaf = json.loads(lines[-1])
    leaf |= {"id": f"{chance.getrandbits(64):016x}", "digests": {}}
    return [*lines[:number], journal_attacks._canonical(leaf), *lines[number:]]


def _reordered(chance: random.Random, lines: list[bytes], limit: int) -> list[bytes]:
    one, other = chance.sample(range(1, limit), 2)
    made = list(lines)
    made[one], made[other] = made[other], made[one]
    return made


def _truncated(chance: random.Random, lines: list[bytes], limit: int) -> list[bytes]:
    return lines[: chance.randrange(1, limit)]


RECORD_FAULTS: tuple[RecordFault, ...] = (_edited, _deleted, _inserted, _reordered, _truncated)


def witnessed_size(world: World, session: str) -> int:
    return max((row["size"] for row in world.cosignatures if row["session"] == session), default=0)


def _rewritten(chance: random.Random, world: World, fault: RecordFault) -> tuple[str, Files]:
    """Change a record under a witnessed head, and make chain, head, content, tiles and checkpoint fit."""
    session = chance.choice(sorted(name for name in world.runs if witnessed_size(world, name) > 4))
    before = dict(world.files)
    path = f"journal/{session}.jsonl"
    # Content that fits no record any more would tell, and so would content that is gone: none ever was.
    lines = [
        journal_attacks._canonical(json.loads(line) | {"digests": {}})
        for line in world.files[path].split(b"\n")[:-1]
    ]
    made = journal_attacks._rechain(fault(chance, lines, witnessed_size(world, session)), session, 0)
    journal_attacks._write(world.files, path, made)
    journal_attacks._rehead(world.files, path)
    for name in [name for name in world.files if name.startswith(f"content/{session}/")]:
        del world.files[name]
    reseal(world, session)
    return session, before


def _clever(fault: RecordFault) -> Attack:
    def attack(chance: random.Random, world: World) -> str:
        session, _ = _rewritten(chance, world, fault)
        republish(world, session)
        return session

    attack.__name__ = f"clever{fault.__name__}"
    return attack


def clever_removal(chance: random.Random, world: World) -> str:
    """All of a session, with everything that was published but what a witness signed."""
    session = chance.choice(sorted(name for name in world.runs if witnessed_size(world, name)))
    for name in [name for name in world.files if f"/{session}." in name or f"/{session}/" in name]:
        del world.files[name]
    del world.runs[session]
    world.heads = [row for row in world.heads if row["session"] != session]
    world.published.pop(session)
    return session


def second_key_removal(chance: random.Random, world: World) -> str:
    """All of a session, and heads of that name by a second key of the owner, as if it were another home's."""
    session = clever_removal(chance, world)
    hashes = [chance.randbytes(32) for _ in range(3)]
    before = {"previous_size": 0, "consistency": [], "user": "ada", "host": "here", "created_at": MOMENT}
    root = base64.b64encode(root_of(hashes)).decode()
    note = sign(session, hashes, SECOND_KEY).decode()
    world.heads.append({"session": session, "size": 3, "root": root, "checkpoint": note} | before)
    return session


def delete_content(chance: random.Random, world: World) -> str:
    name = chance.choice(sorted(name for name in world.files if name.startswith("content/")))
    if chance.random() < 0.5:
        del world.files[name]
    else:
        world.files[name] = b""
    return name.split("/")[1]


def owners_scrub(chance: random.Random, world: World) -> str:
    """Content that the owner exchanges, with a record in the same session that the agent had scrubbed it."""
    name = chance.choice(sorted(name for name in world.files if name.startswith("content/s2/")))
    seq = int(name.rsplit("/", 1)[1].removesuffix(".json"))
    values = json.loads(world.files[name])
    values["content"]["source"] = "y = 'harmless'"
    salt = bytes.fromhex(values["salt"])
    digests = {}
    for part, text in values["content"].items():
        digest = hashlib.sha256(salt + part.encode() + b"\x00" + text.encode()).hexdigest()
        digests[part] = "sha256:" + digest
    world.files[name] = journal_attacks._canonical(values)
    path = "journal/s2.jsonl"
    lines = world.files[path].split(b"\n")[:-1]
    place = {"of_session": "s2", "of_seq": seq, "kinds": ["token"], "digests": digests}
    word = json.loads(lines[-1]) | {
        "seq": len(lines), "prev": hashlib.sha256(lines[-1]).hexdigest(), "digests": {}, "kind": "scrub",
        "id": f"{chance.getrandbits(64):016x}", "runs": [place],
    }  # fmt: skip
    journal_attacks._write(world.files, path, [*lines, journal_attacks._canonical(word)])
    journal_attacks._rehead(world.files, path)
    reseal(world, "s2")
    return "s2"


def _on_files(attack: journal_attacks.Attack) -> Attack:
    def on_files(chance: random.Random, world: World) -> str:
        return attack(chance, world.files)[0]

    return on_files


CLEVER: dict[str, Attack] = {attack.__name__: attack for attack in map(_clever, RECORD_FAULTS)}
ATTACKS: dict[str, Attack] = (
    {f"journal_{name}": _on_files(attack) for name, attack in journal_attacks.ATTACKS.items()}
    | {
        attack.__name__: attack
        for attack in (
            edit_log_byte, edit_checkpoint, cut_log_file, delete_log_file, delete_checkpoint, delete_log,
            old_checkpoint, swap_checkpoints, foreign_signature, sign_more, other_tree, add_log_file,
            edit_head_row, delete_head_row, fork_head_row, edit_run_row, second_key_removal, clever_removal,
            delete_content, owners_scrub,
        )
    }
    | CLEVER
)  # fmt: skip
PLANTED: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (plant_head_row, move_head_row, edit_cosignature_row, move_cosignature_row)
}
"""What anybody who may write to the catalog can do to rows that nobody signs as they stand."""
