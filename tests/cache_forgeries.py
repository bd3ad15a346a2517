"""Damaged, foreign and forged items of the cache, made by somebody who read the format's description only.

Nothing here imports the package: the header, the seal and the places are written anew from
``llmops-item/2 <id: 64 hex> <milliseconds: 12 digits> <seal: 64 hex>\\n<body>``, the seal being BLAKE2b, keyed with
the 32 bytes of the team's key, personalized ``llmops-item/2``, over everything but itself and the line's end.
Some of the forgers are of the team and have its key: what they seal is still no answer.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib

FORMAT = b"llmops-item/2"
SEAL = slice(92, 156)
HEADER = 157
LARGEST = 2**28


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.marker, "run"))


def sealed(secret: bytes, key: str, body: bytes, *, person: bytes = FORMAT, start: bytes = FORMAT) -> bytes:
    """Return an item whose seal is right for this key, unless `person` or `start` is another."""
    header = b"%s %s %012d " % (start, key.encode(), 2500)
    digest = hashlib.blake2b(header + body, key=secret, person=person, digest_size=32)
    return b"%s%s\n%s" % (header, digest.hexdigest().encode(), body)


@dataclass
class Target:
    """A good item to spoil, another good one beside it, and a marker that no code may write.

    Parameters
    ----------
    secret : bytes
        The team's key, which only some forgers use.
    key, other_key : str
        Ids of the two items.
    item, other_item : Path
        Their files.
    text : str
        The answer in the first.
    outside : Path
        A folder beside the cache.
    """

    chance: random.Random
    secret: bytes
    key: str
    other_key: str
    item: Path
    other_item: Path
    text: str
    marker: Path
    outside: Path

    def __post_init__(self) -> None:
        self.data = self.item.read_bytes()
        self.body = self.data[HEADER:]

    def write(self, data: bytes) -> None:
        self.item.write_bytes(data)

    def write_sealed(self, body: bytes | str | Any) -> None:
        """Write an item whose seal is right, as somebody who has the key could."""
        if not isinstance(body, bytes | str):
            body = json.dumps(body)
        data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        self.write(sealed(self.secret, self.key, data))

    def answer(self, **generation: Any) -> dict[str, Any]:
        """Return the good item's value with another generation."""
        value = json.loads(self.body)
        value["generation"] |= {"text": "WRONG"} | generation
        return value

    def pickled(self) -> bytes:
        return pickle.dumps(Bomb(self.marker), protocol=self.chance.randint(0, pickle.HIGHEST_PROTOCOL))


Corruption = Callable[[Target], None]


def flip_bits(target: Target) -> None:
    data = bytearray(target.data)
    for position in target.chance.sample(range(len(data)), target.chance.choice([1, 1, 1, 2, 8])):
        data[position] ^= 1 << target.chance.randrange(8)
    target.write(bytes(data))


def overwrite_run(target: Target) -> None:
    start, length = target.chance.randrange(len(target.data)), target.chance.randint(1, 64)
    noise = target.chance.randbytes(length)
    changed = target.data[:start] + noise + target.data[start + length :]
    target.write(changed if changed != target.data else changed + b"x")


def truncate(target: Target) -> None:
    target.write(target.data[: target.chance.randrange(len(target.data))])


def append(target: Target) -> None:
    target.write(
        target.data + target.chance.choice([b"\n", b" ", b"\0", b"}", target.data, target.pickled()])
    )


def insert(target: Target) -> None:
    at = target.chance.randrange(len(target.data))
    target.write(target.data[:at] + target.chance.randbytes(target.chance.randint(1, 9)) + target.data[at:])


def delete_run(target: Target) -> None:
    at = target.chance.randrange(len(target.data))
    target.write(target.data[:at] + target.data[at + target.chance.randint(1, 20) :])


def change_the_text_only(target: Target) -> None:
    target.write(target.data.replace(b"Lima", b"Cali"))


def change_the_text_and_guess_the_seal(target: Target) -> None:
    body = target.body.replace(b"Lima", b"Cali")
    guess = target.chance.choice(
        [
            target.data[SEAL],
            b"0" * 64,
            hashlib.sha256(body).hexdigest().encode(),
            hashlib.sha256(target.data[: SEAL.start] + body).hexdigest().encode(),
            hashlib.blake2b(target.data[: SEAL.start] + body, digest_size=32).hexdigest().encode(),
            target.chance.randbytes(64),
        ]
    )
    target.write(target.data[: SEAL.start] + guess + b"\n" + body)


def sealed_with_another_key(target: Target) -> None:
    body = target.body.replace(b"Lima", b"Cali") if target.chance.random() < 0.5 else target.body
    almost = bytes([*target.secret[:31], target.secret[31] ^ 1 << target.chance.randrange(8)])
    secret = target.chance.choice([b"\0" * 32, target.chance.randbytes(32), almost, target.secret[:16]])
    target.write(sealed(secret, target.key, body))


def sealed_as_another_kind(target: Target) -> None:
    person, start = target.chance.choice(
        [
            (b"llmops-item/2", b"llmops-mark/2"),
            (b"llmops-item/1", FORMAT),
            (b"", FORMAT),
            (b"llmops-key-id", FORMAT),
        ]
    )
    target.write(sealed(target.secret, target.key, target.body, person=person, start=start))


def seal_cut_or_in_capitals(target: Target) -> None:
    seal = target.data[SEAL]
    target.write(
        target.data[: SEAL.start]
        + target.chance.choice([seal[:32], seal.upper() + b" ", seal + seal, b"", seal[:63] + b"\0"])
        + b"\n"
        + target.body
    )


def other_milliseconds(target: Target) -> None:
    target.write(target.data.replace(b" 000000002500 ", b" %012d " % target.chance.randrange(2500), 1))


def bytes_moved_over_the_edge_of_the_header(target: Target) -> None:
    step = target.chance.randint(1, 30)
    header = target.data[: SEAL.start]
    target.write(header + target.data[SEAL] + target.body[:step] + b"\n" + target.body[step:])


def item_of_version_1(target: Target) -> None:
    digest = hashlib.sha256(b"llmops-item/1" + target.key.encode() + target.body).hexdigest()
    target.write(b"llmops-item/1 %s %s\n%s" % (target.key.encode(), digest.encode(), target.body))


def item_of_another_teams_folder(target: Target) -> None:
    target.item.unlink()
    planted = target.item.parents[1].with_name("v2-01234567") / target.key[:2] / target.item.name
    planted.parent.mkdir(parents=True)
    planted.write_bytes(target.data)
    target.item.symlink_to(planted)  # the seal is right, so only the link is wrong


def swap_two_items(target: Target) -> None:
    other = target.other_item.read_bytes()
    target.other_item.write_bytes(target.data)
    target.write(other)


def other_answer_under_this_id(target: Target) -> None:
    target.write_sealed(target.other_item.read_bytes()[HEADER:])


def rename_other_item(target: Target) -> None:
    target.other_item.replace(target.item)


def header_of_this_body_of_other(target: Target) -> None:
    target.write(target.data[:HEADER] + target.other_item.read_bytes()[HEADER:])


def pickle_as_item(target: Target) -> None:
    target.write(target.pickled())


def pickle_behind_the_header(target: Target) -> None:
    target.write_sealed(target.pickled())


def pickle_in_the_text_of_json(target: Target) -> None:
    target.write_sealed(
        {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {target.marker}"]}]}
    )


def joblib_dump(target: Target) -> None:
    joblib.dump(Bomb(target.marker), target.item, compress=target.chance.choice([0, 3, ("gzip", 3)]))


def packed(target: Target) -> None:
    target.write(gzip.compress(target.data))


def python_source(target: Target) -> None:
    target.write(f"__import__('pathlib').Path({str(target.marker)!r}).write_text('run')\n".encode())


def too_large(target: Target) -> None:
    with target.item.open("r+b") as file:
        file.truncate(LARGEST + target.chance.randint(1, 2**33))


def name_twice(target: Target) -> None:
    body = target.body.decode()
    text = json.dumps(target.text)
    target.write_sealed(body.replace(f'"text":{text}', f'"text":{text},"text":"WRONG"'))


def not_a_number(target: Target) -> None:
    word = target.chance.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
    target.write_sealed(target.body.decode().replace('"seconds":2.5', f'"seconds":{word}'))


def nested_deeply(target: Target) -> None:
    depth = target.chance.choice([2_000, 20_000, 200_000])
    opening, closing = target.chance.choice([("[", "]"), ('{"a":', "}")])
    target.write_sealed(opening * depth + "1" + closing * depth)


def huge_number(target: Target) -> None:
    target.write_sealed(target.body.decode().replace('"tokens_in":21', '"tokens_in":' + "9" * 10_000))


def lone_surrogate(target: Target) -> None:
    escaped = target.chance.choice(['"\\ud800"', '"\\udfff x"'])
    text = json.dumps(target.text)
    target.write_sealed(target.body.decode().replace(f'"text":{text}', f'"text":{escaped}'))


def not_utf8(target: Target) -> None:
    target.write_sealed(target.body.replace(b"Lima", b"Lim\xff"))


def wrong_type_inside(target: Target) -> None:
    wrong: list[dict[str, Any]] = [
        {"text": None},
        {"text": ["Lima"]},
        {"text": 7},
        {"token_ids": "123"},
        {"token_ids": {"0": 1}},
        {"token_ids": [1, "2"]},
        {"token_ids": [1, 2.0]},
        {"token_ids": [True]},
        {"token_ids": [[1]]},
        {"tokens_in": -1},
        {"tokens_in": 2.0},
        {"tokens_in": True},
        {"seconds": "2.5"},
        {"seconds": 2},
        {"seconds": -0.5},
        {"seconds": None},
        {"finish_reason": "interrupted"},
        {"finish_reason": "done"},
        {"finish_reason": []},
        {"finish_reason": None},
        {"tokens_out": -1},
        {"batch_size": 1.5},
        {"served_by": None},
        {"determinism": "perfect"},
        {"determinism": []},
        {"cost": 1.0},
        {"cost": [1, "USD", ""]},
        {"cost": [-1.0, "USD", ""]},
        {"cost": [1.0, None, ""]},
        {"cost": [1.0, "USD"]},
    ]
    target.write_sealed(target.answer(**target.chance.choice(wrong)))


def wrong_provenance(target: Target) -> None:
    value = target.answer()
    part, content = target.chance.choice(
        [
            ("stored_at", "yesterday"),
            ("stored_at", "2026-11-22T10:00:00"),
            ("stored_at", "2026-11-22T10:00:00+02:00"),
            ("stored_at", 1_700_000_000),
            ("stored_by", None),
            ("stored_by", 7),
            ("engine_version", []),
            ("model", {}),
        ]
    )
    value["provenance"][part] = content
    target.write_sealed(value)


def missing_part(target: Target) -> None:
    value = target.answer()
    inside = target.chance.choice([value, value["generation"], value["provenance"]])
    del inside[target.chance.choice(sorted(inside))]
    target.write_sealed(value)


def other_json(target: Target) -> None:
    target.write_sealed(
        target.chance.choice(["null", "[]", "{}", '"text"', "7", "true", "[{}]", '{"generation":[]}', ""])
    )


def another_format_number(target: Target) -> None:
    number = target.chance.choice([b"llmops-item/0", b"llmops-item/3", b"llmops-item/22", b"LLMOPS-ITEM/2"])
    target.write(number + target.data[len(FORMAT) :])


def link_to_the_other_item(target: Target) -> None:
    target.item.unlink()
    target.item.symlink_to(target.other_item)


def link_to_a_good_copy_outside(target: Target) -> None:
    copy = target.outside / "copy"
    target.item.replace(copy)
    target.item.symlink_to(copy)


def link_into_nowhere(target: Target) -> None:
    target.item.unlink()
    target.item.symlink_to(target.chance.choice([target.item, target.outside / "nothing", Path("/dev/zero")]))


def pipe(target: Target) -> None:
    target.item.unlink()
    os.mkfifo(target.item)


def listening_socket(target: Target) -> None:
    target.item.unlink()
    # The address of a socket is at most 108 bytes, so it is bound from inside.
    here = Path.cwd()
    os.chdir(target.item.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(target.item.name)
    finally:
        os.chdir(here)


def folder_in_its_place(target: Target) -> None:
    target.item.unlink()
    target.item.mkdir()


CORRUPTIONS: tuple[Corruption, ...] = (
    flip_bits,
    overwrite_run,
    truncate,
    append,
    insert,
    delete_run,
    change_the_text_only,
    change_the_text_and_guess_the_seal,
    swap_two_items,
    sealed_with_another_key,
    sealed_as_another_kind,
    seal_cut_or_in_capitals,
    other_milliseconds,
    bytes_moved_over_the_edge_of_the_header,
    item_of_version_1,
    item_of_another_teams_folder,
    other_answer_under_this_id,
    rename_other_item,
    header_of_this_body_of_other,
    pickle_as_item,
    pickle_behind_the_header,
    pickle_in_the_text_of_json,
    joblib_dump,
    packed,
    python_source,
    too_large,
    name_twice,
    not_a_number,
    nested_deeply,
    huge_number,
    lone_surrogate,
    not_utf8,
    wrong_type_inside,
    wrong_provenance,
    missing_part,
    other_json,
    another_format_number,
    link_to_the_other_item,
    link_to_a_good_copy_outside,
    link_into_nowhere,
    pipe,
    listening_socket,
    folder_in_its_place,
)
