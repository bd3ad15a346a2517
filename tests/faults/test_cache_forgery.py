"""Damage and forgery of items: nothing is run, nothing wrong is served, the next answer is right again.

Every case plants one seeded corruption of `cache_forgeries` in place of a good item and asks for it: the answer
must be computed, one CacheWarning must say so, no planted code may run, and the item must be replaced by a
good one. `make soak` runs 10,000 cases.
"""

from __future__ import annotations

import pickle
import random
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import joblib
import pytest

from cache_answers import GENERATION, Engine, asking, item_path
from cache_forgeries import (
    CORRUPTIONS,
    Corruption,
    Target,
    joblib_dump,
    other_answer_under_this_id,
    rename_other_item,
    swap_two_items,
)
from jupyter_llmops.cache.exact import CacheWarning, ExactCache
from jupyter_llmops.cache.item_folder import MARK_SUFFIX
from jupyter_llmops.cache.request_key import request_key
from jupyter_llmops.errors import UsageError
from jupyter_llmops.keys.team import team_key
from soak import SoakScale

QUESTIONS = ("capital of Perú?", "capital of Ecuador?")


class Scene:
    """A folder with two good items, and a target for the forger."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder = folder / "cache"
        outside = folder / "outside"
        outside.mkdir()
        self.request, self.other_request = (asking(question) for question in QUESTIONS)
        self.truth = Engine(replace(GENERATION, text="Lima " * chance.randint(1, 60)))
        self.other_truth = Engine(replace(GENERATION, text="Quito"))
        for request, engine in ((self.request, self.truth), (self.other_request, self.other_truth)):
            ExactCache(self.folder).fetch(request, engine)
        self.target = Target(
            chance=chance,
            secret=team_key(str(self.folder)).secret,
            key=request_key(self.request),
            other_key=request_key(self.other_request),
            item=item_path(self.folder, self.request),
            other_item=item_path(self.folder, self.other_request),
            text=self.truth.generation.text,
            marker=folder / "marker",
            outside=outside,
        )


def run_case(folder: Path, seed: int) -> None:
    """Plant one corruption and ask; raises AssertionError unless it was rejected and healed."""
    scene = Scene(folder, random.Random(seed))
    corruption = CORRUPTIONS[seed % len(CORRUPTIONS)]
    corruption(scene.target)
    name, item = corruption.__name__, scene.target.item
    cache = ExactCache(scene.folder)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = cache.fetch(scene.request, scene.truth)
    assert not result.hit, name
    assert result.generation == scene.truth.generation, name
    assert scene.truth.asked == 2, name
    assert [warning.category for warning in seen] == [CacheWarning], name
    assert cache.stats().rejected == 1, name
    assert str(item) in cache.why(), name
    assert not item.is_symlink(), name

    # Healed, for this reader and for one that has nothing in memory.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reader in (cache, ExactCache(scene.folder)):
            again = reader.fetch(scene.request, scene.truth)
            assert (again.hit, again.generation) == (True, scene.truth.generation), name
    assert not scene.target.marker.exists(), f"{name} ran code"


@pytest.mark.timeout(3600)
def test_every_corruption_is_rejected_and_healed(tmp_path: Path, soak_scale: SoakScale):
    for case in soak_scale.cases(sample=5 * len(CORRUPTIONS), full=10_000):
        folder = tmp_path / str(case)
        folder.mkdir()
        run_case(folder, case)
        shutil.rmtree(folder)


def test_the_forger_imports_nothing_of_the_package():
    assert "jupyter_llmops" not in Path(__file__).parents[1].joinpath("cache_forgeries.py").read_text("utf-8")


@pytest.mark.parametrize("corruption", [swap_two_items, rename_other_item, other_answer_under_this_id])
def test_both_sides_of_an_exchange_get_their_own_answers(tmp_path: Path, corruption: Corruption):
    scene = Scene(tmp_path, random.Random(1))
    corruption(scene.target)
    cache = ExactCache(scene.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        assert cache.fetch(scene.other_request, scene.other_truth).generation == scene.other_truth.generation
        assert cache.fetch(scene.request, scene.truth).generation == scene.truth.generation


def test_the_bombs_are_live(tmp_path: Path):
    """A campaign whose pickles do nothing would prove nothing."""
    target = Scene(tmp_path, random.Random(1)).target
    pickle.loads(target.pickled())
    assert target.marker.exists()
    target.marker.unlink()
    joblib_dump(target)
    joblib.load(target.item)
    assert target.marker.exists()


def test_a_good_item_is_served(tmp_path: Path):
    """What the forger seals with the right key and the right body is the item, so a rejection is the corruption's doing."""
    scene = Scene(tmp_path, random.Random(1))
    scene.target.write_sealed(scene.target.body)
    assert scene.target.item.read_bytes() == scene.target.data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ExactCache(scene.folder).fetch(scene.request, scene.truth).hit


@pytest.mark.parametrize("planted", [b"", b"llmops-mark/2 nonsense", pickle.dumps({"wrong": True})])
def test_a_planted_mark_is_no_mark_and_no_answer(tmp_path: Path, planted: bytes):
    """Whoever can write there could also delete the item: it costs a computation, and says so each time."""
    scene = Scene(tmp_path, random.Random(1))
    cache = ExactCache(scene.folder)
    assert cache.fetch(scene.request, scene.truth).hit
    mark = cache.mark_wrong()
    cache.mark_right()
    suffix = next(iter(_marks_of(cache, scene, mark.text)))
    suffix.write_bytes(planted)
    reader = ExactCache(scene.folder)
    with pytest.warns(CacheWarning, match="has a mark beside it that .*%cache right removes it"):
        assert not reader.fetch(scene.request, scene.truth).hit
    with pytest.raises(UsageError, match="no mark of the team's, and was removed"):
        reader.mark_right(scene.request)
    assert not suffix.exists()
    assert reader.fetch(scene.request, scene.truth).hit


def _marks_of(cache: ExactCache, scene: Scene, text: str) -> list[Path]:
    """Return where the mark of an answer lies, by marking it and taking that back."""
    assert text == scene.truth.generation.text
    cache.fetch(scene.request, scene.truth)
    cache.mark_wrong()
    found = list(scene.folder.rglob(f"*{MARK_SUFFIX}"))
    cache.mark_right()
    return found
