"""Damage and forgery of items: nothing is run, nothing wrong is served, the next answer is right again.

Every case plants one seeded corruption in place of a good item and asks for it: the answer must be
computed, one CacheWarning must say so, no planted code may run, and the item must be replaced by a
good one. `make soak` runs 10,000 cases.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import shutil
import socket
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pytest

from cache_answers import GENERATION, Engine, asking
from jupyter_llmops.cache.exact import CacheWarning, ExactCache
from jupyter_llmops.cache.item_folder import SUFFIX
from jupyter_llmops.cache.item_format import FORMAT, seal
from jupyter_llmops.cache.request_key import request_key
from jupyter_llmops.cache.store import LARGEST_ITEM
from soak import SoakScale

QUESTIONS = ("capital of Perú?", "capital of Ecuador?")


class Bomb:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (self.marker, "run"))


class Scene:
    """A folder with two good items, and what a corruption needs to spoil the first."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.folder = folder / "cache"
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.marker = folder / "marker"
        self.request, self.other_request = (asking(question) for question in QUESTIONS)
        self.truth = Engine(replace(GENERATION, text="Lima " * chance.randint(1, 60)))
        self.other_truth = Engine(replace(GENERATION, text="Quito"))
        for request, engine in ((self.request, self.truth), (self.other_request, self.other_truth)):
            ExactCache(self.folder).fetch(request, engine)
        self.key, self.other_key = request_key(self.request), request_key(self.other_request)
        self.item, self.other_item = self.path_of(self.key), self.path_of(self.other_key)
        self.data = self.item.read_bytes()
        self.body = self.data.split(b"\n", 1)[1]

    def path_of(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def write(self, data: bytes) -> None:
        self.item.write_bytes(data)

    def write_sealed(self, body: bytes | str | Any) -> None:
        """Write an item whose seal is right, as somebody who read this code would."""
        if not isinstance(body, bytes | str):
            body = json.dumps(body)
        data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
        self.write(b"%s %s %s\n%s" % (FORMAT, self.key.encode(), seal(self.key, data), data))

    def answer(self, **generation: Any) -> dict[str, Any]:
        """Return the good item's value with another generation."""
        value = json.loads(self.body)
        value["generation"] |= {"text": "WRONG"} | generation
        return value

    def pickled(self) -> bytes:
        return pickle.dumps(Bomb(self.marker), protocol=self.chance.randint(0, pickle.HIGHEST_PROTOCOL))


Corruption = Callable[[Scene], None]


def flip_bits(scene: Scene) -> None:
    data = bytearray(scene.data)
    for position in scene.chance.sample(range(len(data)), scene.chance.choice([1, 1, 1, 2, 8])):
        data[position] ^= 1 << scene.chance.randrange(8)
    scene.write(bytes(data))


def overwrite_run(scene: Scene) -> None:
    start, length = scene.chance.randrange(len(scene.data)), scene.chance.randint(1, 64)
    noise = scene.chance.randbytes(length)
    changed = scene.data[:start] + noise + scene.data[start + length :]
    scene.write(changed if changed != scene.data else changed + b"x")


def truncate(scene: Scene) -> None:
    scene.write(scene.data[: scene.chance.randrange(len(scene.data))])


def append(scene: Scene) -> None:
    scene.write(scene.data + scene.chance.choice([b"\n", b" ", b"\0", b"}", scene.data, scene.pickled()]))


def insert(scene: Scene) -> None:
    at = scene.chance.randrange(len(scene.data))
    scene.write(scene.data[:at] + scene.chance.randbytes(scene.chance.randint(1, 9)) + scene.data[at:])


def delete_run(scene: Scene) -> None:
    at = scene.chance.randrange(len(scene.data))
    scene.write(scene.data[:at] + scene.data[at + scene.chance.randint(1, 20) :])


def change_the_text_only(scene: Scene) -> None:
    scene.write(scene.data.replace(b"Lima", b"Cali"))


def change_the_text_and_guess_the_seal(scene: Scene) -> None:
    body = scene.body.replace(b"Lima", b"Cali")
    wrong = seal(scene.other_key, body)
    scene.write(b"%s %s %s\n%s" % (FORMAT, scene.key.encode(), wrong, body))


def swap_two_items(scene: Scene) -> None:
    other = scene.other_item.read_bytes()
    scene.other_item.write_bytes(scene.data)
    scene.write(other)


def other_answer_under_this_id(scene: Scene) -> None:
    scene.write_sealed(scene.other_item.read_bytes().split(b"\n", 1)[1])


def rename_other_item(scene: Scene) -> None:
    scene.other_item.replace(scene.item)


def header_of_this_body_of_other(scene: Scene) -> None:
    scene.write(scene.data[:144] + scene.other_item.read_bytes()[144:])


def pickle_as_item(scene: Scene) -> None:
    scene.write(scene.pickled())


def pickle_behind_the_header(scene: Scene) -> None:
    scene.write_sealed(scene.pickled())


def pickle_in_the_text_of_json(scene: Scene) -> None:
    scene.write_sealed({"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [f"touch {scene.marker}"]}]})


def joblib_dump(scene: Scene) -> None:
    joblib.dump(Bomb(scene.marker), scene.item, compress=scene.chance.choice([0, 3, ("gzip", 3)]))


def packed(scene: Scene) -> None:
    scene.write(gzip.compress(scene.data))


def python_source(scene: Scene) -> None:
    scene.write(f"__import__('pathlib').Path({str(scene.marker)!r}).write_text('run')\n".encode())


def too_large(scene: Scene) -> None:
    with scene.item.open("r+b") as file:
        file.truncate(LARGEST_ITEM + scene.chance.randint(1, 2**33))


def name_twice(scene: Scene) -> None:
    body = scene.body.decode()
    text = json.dumps(scene.truth.generation.text)
    scene.write_sealed(body.replace(f'"text":{text}', f'"text":{text},"text":"WRONG"'))


def not_a_number(scene: Scene) -> None:
    word = scene.chance.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
    scene.write_sealed(scene.body.decode().replace('"seconds":2.5', f'"seconds":{word}'))


def nested_deeply(scene: Scene) -> None:
    depth = scene.chance.choice([2_000, 20_000, 200_000])
    opening, closing = scene.chance.choice([("[", "]"), ('{"a":', "}")])
    scene.write_sealed(opening * depth + "1" + closing * depth)


def huge_number(scene: Scene) -> None:
    scene.write_sealed(scene.body.decode().replace('"tokens_in":21', '"tokens_in":' + "9" * 10_000))


def lone_surrogate(scene: Scene) -> None:
    escaped = scene.chance.choice(['"\\ud800"', '"\\udfff x"'])
    text = json.dumps(scene.truth.generation.text)
    scene.write_sealed(scene.body.decode().replace(f'"text":{text}', f'"text":{escaped}'))


def not_utf8(scene: Scene) -> None:
    scene.write_sealed(scene.body.replace(b"Lima", b"Lim\xff"))


def wrong_type_inside(scene: Scene) -> None:
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
    ]
    scene.write_sealed(scene.answer(**scene.chance.choice(wrong)))


def wrong_provenance(scene: Scene) -> None:
    value = scene.answer()
    part, content = scene.chance.choice(
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
    scene.write_sealed(value)


def missing_part(scene: Scene) -> None:
    value = scene.answer()
    inside = scene.chance.choice([value, value["generation"], value["provenance"]])
    del inside[scene.chance.choice(sorted(inside))]
    scene.write_sealed(value)


def other_json(scene: Scene) -> None:
    scene.write_sealed(
        scene.chance.choice(["null", "[]", "{}", '"text"', "7", "true", "[{}]", '{"generation":[]}', ""])
    )


def another_format_number(scene: Scene) -> None:
    number = scene.chance.choice([b"llmops-item/0", b"llmops-item/2", b"llmops-item/11", b"LLMOPS-ITEM/1"])
    scene.write(number + scene.data[len(FORMAT) :])


def link_to_the_other_item(scene: Scene) -> None:
    scene.item.unlink()
    scene.item.symlink_to(scene.other_item)


def link_to_a_good_copy_outside(scene: Scene) -> None:
    copy = scene.outside / "copy"
    scene.item.replace(copy)
    scene.item.symlink_to(copy)


def link_into_nowhere(scene: Scene) -> None:
    scene.item.unlink()
    scene.item.symlink_to(scene.chance.choice([scene.item, scene.outside / "nothing", Path("/dev/zero")]))


def pipe(scene: Scene) -> None:
    scene.item.unlink()
    os.mkfifo(scene.item)


def listening_socket(scene: Scene) -> None:
    scene.item.unlink()
    # The address of a socket is at most 108 bytes, so it is bound from inside.
    here = Path.cwd()
    os.chdir(scene.item.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(scene.item.name)
    finally:
        os.chdir(here)


def folder_in_its_place(scene: Scene) -> None:
    scene.item.unlink()
    scene.item.mkdir()


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


def run_case(folder: Path, seed: int) -> None:
    """Plant one corruption and ask; raises AssertionError unless it was rejected and healed."""
    chance = random.Random(seed)
    scene = Scene(folder, chance)
    corruption = CORRUPTIONS[seed % len(CORRUPTIONS)]
    corruption(scene)
    cache = ExactCache(scene.folder)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = cache.fetch(scene.request, scene.truth)
    name = corruption.__name__
    assert not result.hit, name
    assert result.generation == scene.truth.generation, name
    assert scene.truth.asked == 2, name
    assert [warning.category for warning in seen] == [CacheWarning], name
    assert cache.stats().rejected == 1, name
    assert str(scene.item) in cache.why(), name
    assert not scene.item.is_symlink(), name

    # Healed, for this reader and for one that has nothing in memory.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reader in (cache, ExactCache(scene.folder)):
            again = reader.fetch(scene.request, scene.truth)
            assert (again.hit, again.generation) == (True, scene.truth.generation), name
    assert not scene.marker.exists(), f"{name} ran code"


@pytest.mark.timeout(3600)
def test_every_corruption_is_rejected_and_healed(tmp_path: Path, soak_scale: SoakScale):
    for case in soak_scale.cases(sample=10 * len(CORRUPTIONS), full=10_000):
        folder = tmp_path / str(case)
        folder.mkdir()
        run_case(folder, case)
        shutil.rmtree(folder)


@pytest.mark.parametrize("corruption", [swap_two_items, rename_other_item, other_answer_under_this_id])
def test_both_sides_of_an_exchange_get_their_own_answers(tmp_path: Path, corruption: Corruption):
    scene = Scene(tmp_path, random.Random(1))
    corruption(scene)
    cache = ExactCache(scene.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        assert cache.fetch(scene.other_request, scene.other_truth).generation == scene.other_truth.generation
        assert cache.fetch(scene.request, scene.truth).generation == scene.truth.generation


def test_the_bombs_are_live(tmp_path: Path):
    """A campaign whose pickles do nothing would prove nothing."""
    scene = Scene(tmp_path, random.Random(1))
    pickle.loads(scene.pickled())
    assert scene.marker.exists()
    scene.marker.unlink()
    joblib_dump(scene)
    joblib.load(scene.item)
    assert scene.marker.exists()


def test_a_good_item_is_served(tmp_path: Path):
    """Without a corruption the same case hits, so a rejection is the corruption's doing."""
    scene = Scene(tmp_path, random.Random(1))
    scene.write_sealed(scene.body)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ExactCache(scene.folder).fetch(scene.request, scene.truth).hit
