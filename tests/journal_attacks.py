"""Attacks on an audit folder, by somebody who knows its format well; imports nothing of the package.

An attack is a function of a random generator and of the folder's files (relative path → bytes), which
it changes in place. It returns the session that it touched, and the record where it is one.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

Files = dict[str, bytes]
Target = tuple[str, int | None]
Attack = Callable[[random.Random, Files], Target]

ZERO = "0" * 64


def _journal(generator: random.Random, files: Files) -> tuple[str, str, list[bytes]]:
    path = generator.choice(sorted(path for path in files if path.endswith(".jsonl")))
    session = path.split("/")[-1].removesuffix(".jsonl")
    return path, session, files[path].split(b"\n")[:-1]


def _write(files: Files, path: str, lines: list[bytes]) -> None:
    files[path] = b"".join(line + b"\n" for line in lines)


def _canonical(leaf: dict[str, object]) -> bytes:
    return json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _rechain(lines: list[bytes], session: str, start: int) -> list[bytes]:
    """Make every link and number right again from a line on."""
    made = lines[:start]
    for number in range(start, len(lines)):
        leaf = json.loads(lines[number])
        leaf["prev"] = hashlib.sha256(made[-1]).hexdigest() if made else ZERO
        leaf["seq"] = number
        leaf["session"] = session
        made.append(_canonical(leaf))
    return made


def _rehead(files: Files, path: str) -> None:
    """Make the head fit the journal as it is now."""
    lines = files[path].split(b"\n")[:-1]
    digest = hashlib.sha256(lines[-1]).hexdigest() if lines else ZERO
    old = files[path.removesuffix("jsonl") + "head"].decode().splitlines()
    new = ""
    for line in old:
        new += f"{line.split()[0]} {len(lines) - 1:>20d} {digest}".ljust(len(line)) + "\n"
    files[path.removesuffix("jsonl") + "head"] = new.encode()


def _changed_byte(generator: random.Random, data: bytes) -> tuple[bytes, int]:
    place = generator.randrange(len(data))
    value = generator.choice([value for value in range(256) if value != data[place]])
    return data[:place] + bytes([value]) + data[place + 1 :], place


def edit_byte(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    data = files[path]
    files[path], place = _changed_byte(generator, data)
    return session, data[:place].count(b"\n")


def edit_bit(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    data = bytearray(files[path])
    place = generator.randrange(len(data))
    data[place] ^= 1 << generator.randrange(8)
    number = files[path][:place].count(b"\n")
    files[path] = bytes(data)
    return session, number


def insert_bytes(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    data = files[path]
    place = generator.randrange(len(data) + 1)
    files[path] = data[:place] + generator.randbytes(generator.randint(1, 9)) + data[place:]
    return session, None


def delete_bytes(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    data = files[path]
    place = generator.randrange(len(data))
    files[path] = data[:place] + data[place + generator.randint(1, 9) :]
    return session, None


def edit_value(generator: random.Random, files: Files) -> Target:
    """Change one value and keep the line canonical."""
    path, session, lines = _journal(generator, files)
    number = generator.randrange(len(lines))
    leaf = json.loads(lines[number])
    name = generator.choice(
        ["status", "user", "microseconds", "started_at", "prev", "seq", "id", "digests", "kind"]
    )
    leaf[name] = {"microseconds": leaf["microseconds"] + 1, "seq": leaf["seq"] + 1, "digests": {}}.get(
        name, "other"
    )
    lines[number] = _canonical(leaf)
    _write(files, path, lines)
    return session, number


def edit_form(generator: random.Random, files: Files) -> Target:
    """Say the same with other bytes."""
    path, session, lines = _journal(generator, files)
    number = generator.randrange(len(lines))
    leaf = json.loads(lines[number])
    shuffled = list(leaf.items())
    generator.shuffle(shuffled)
    way = generator.randrange(3)
    lines[number] = [
        json.dumps(leaf, sort_keys=True).encode(),
        json.dumps(dict(shuffled), separators=(",", ":")).encode() + b" ",
        lines[number][:-1] + b',"user":"another"}',
    ][way]
    _write(files, path, lines)
    return session, number


def delete_line(generator: random.Random, files: Files) -> Target:
    path, session, lines = _journal(generator, files)
    number = generator.randrange(len(lines))
    del lines[number]
    _write(files, path, lines)
    return session, None


def repeat_line(generator: random.Random, files: Files) -> Target:
    path, session, lines = _journal(generator, files)
    lines.insert(generator.randrange(len(lines) + 1), generator.choice(lines))
    _write(files, path, lines)
    return session, None


def swap_lines(generator: random.Random, files: Files) -> Target:
    path, session, lines = _journal(generator, files)
    one, other = generator.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    _write(files, path, lines)
    return session, None


def cut_lines(generator: random.Random, files: Files) -> Target:
    path, session, lines = _journal(generator, files)
    _write(files, path, lines[: generator.randrange(len(lines))])
    return session, None


def cut_bytes(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    files[path] = files[path][: generator.randrange(len(files[path]))]
    return session, None


def append_line(generator: random.Random, files: Files) -> Target:
    """A line that fits the chain in every way."""
    path, session, lines = _journal(generator, files)
    leaf = json.loads(lines[-1])
    leaf["id"] = f"{generator.getrandbits(64):016x}"
    leaf["digests"] = {}
    _write(files, path, _rechain([*lines, _canonical(leaf)], session, len(lines)))
    return session, len(lines)


def append_garbage(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    files[path] += generator.choice([b"\n", b"{}\n", b"{", b" ", b"\x00"])
    return session, None


def move_between(generator: random.Random, files: Files) -> Target:
    """A line of another session, made to fit."""
    path, session, lines = _journal(generator, files)
    _, _, others = _journal(generator, files)
    place = generator.randint(1, len(lines))
    _write(files, path, _rechain([*lines[:place], generator.choice(others), *lines[place:]], session, place))
    return session, None


def fork(generator: random.Random, files: Files) -> Target:
    """Rewrite a record and everything after it; the chain is right again, the head is not."""
    path, session, lines = _journal(generator, files)
    number = generator.randrange(len(lines))
    leaf = json.loads(lines[number])
    leaf["user"] = "another"
    lines[number] = _canonical(leaf)
    _write(files, path, _rechain(lines, session, number))
    return session, None


def rollback(generator: random.Random, files: Files) -> Target:
    """Cut the end off and make the head fit: only what was published can tell."""
    target = cut_lines(generator, files)
    _rehead(files, next(path for path in files if path.endswith(f"/{target[0]}.jsonl")))
    return target


def perfect_fork(generator: random.Random, files: Files) -> Target:
    """Rewrite, chain again and make the head fit: only what was published can tell."""
    target = fork(generator, files)
    _rehead(files, next(path for path in files if path.endswith(f"/{target[0]}.jsonl")))
    return target


def perfect_deletion(generator: random.Random, files: Files) -> Target:
    """Leave a record out, number and chain again, make the head fit: only what was published can tell."""
    path, session, lines = _journal(generator, files)
    number = generator.randrange(1, len(lines))
    _write(files, path, _rechain([*lines[:number], *lines[number + 1 :]], session, number))
    _rehead(files, path)
    for name in [name for name in files if f"content/{session}/" in name]:
        seq = int(name.split("/")[-1].removesuffix(".json"))
        if seq >= number:
            del files[name]
    return session, None


def delete_journal(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    del files[path]
    return session, None


def delete_session(generator: random.Random, files: Files) -> Target:
    """All of a session: only what was published can tell."""
    _, session, _ = _journal(generator, files)
    for name in [name for name in files if f"/{session}." in name or f"/{session}/" in name]:
        del files[name]
    return session, None


def rename_session(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    files[path.replace(session, session + "x")] = files.pop(path)
    return session, None


def delete_head(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    del files[path.removesuffix("jsonl") + "head"]
    return session, None


def edit_head(generator: random.Random, files: Files) -> Target:
    path, session, _ = _journal(generator, files)
    name = path.removesuffix("jsonl") + "head"
    files[name], _ = _changed_byte(generator, files[name])
    return session, None


def _sidecar(generator: random.Random, files: Files) -> tuple[str, str, int]:
    name = generator.choice(sorted(path for path in files if path.startswith("content/")))
    _, session, file = name.split("/")
    return name, session, int(file.removesuffix(".json"))


def edit_content(generator: random.Random, files: Files) -> Target:
    name, session, seq = _sidecar(generator, files)
    files[name], _ = _changed_byte(generator, files[name])
    return session, seq


def rewrite_content(generator: random.Random, files: Files) -> Target:
    """Another source in the right form, with the same salt or a new one."""
    name, session, seq = _sidecar(generator, files)
    values = json.loads(files[name])
    values["content"]["source"] += " # harmless"
    if generator.random() < 0.5:
        values["salt"] = f"{generator.getrandbits(128):032x}"
    files[name] = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    return session, seq


def reform_content(generator: random.Random, files: Files) -> Target:
    """The same content with other bytes, or with something more."""
    name, session, seq = _sidecar(generator, files)
    values = json.loads(files[name])
    way = generator.choice(("more", "spaces", "capitals"))
    if way == "more":
        values["note"] = "x"
    elif way == "capitals":  # which are the same number
        values["salt"] = values["salt"].upper()
    spaces: dict[str, Any] = (
        {"indent": 1} if way == "spaces" else {"sort_keys": True, "separators": (",", ":")}
    )
    files[name] = json.dumps(values, **spaces).encode()
    return session, seq


def cut_content(generator: random.Random, files: Files) -> Target:
    name, session, seq = _sidecar(generator, files)
    files[name] = files[name][: generator.randrange(1, len(files[name]))]
    return session, seq


def swap_contents(generator: random.Random, files: Files) -> Target:
    name, session, seq = _sidecar(generator, files)
    other = name
    while other == name:
        other, _, _ = _sidecar(generator, files)
    files[name], files[other] = files[other], files[name]
    return session, seq


def add_content(generator: random.Random, files: Files) -> Target:
    name, session, _ = _sidecar(generator, files)
    folder = name.rsplit("/", 1)[0]
    files[f"{folder}/{generator.choice(['0', '9999', '01', 'x'])}.json"] = files[name]
    return session, None


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        edit_byte, edit_bit, insert_bytes, delete_bytes, edit_value, edit_form, delete_line, repeat_line,
        swap_lines, cut_lines, cut_bytes, append_line, append_garbage, move_between, fork, rollback,
        perfect_fork, perfect_deletion, delete_journal, delete_session, rename_session, delete_head,
        edit_head, edit_content, rewrite_content, reform_content, cut_content, swap_contents, add_content,
    )
}  # fmt: skip

# Whoever owns all the files can do these; without a published row nothing can tell.
NEEDS_PUBLISHED = ("rollback", "perfect_fork", "perfect_deletion", "delete_session")
