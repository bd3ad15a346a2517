"""Finding prompts, models and collections by words and by meaning, with the real encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import CatalogError, UsageError
from jupyter_llmops.inference.encoder import Encoder, open_encoder, space_digest
from jupyter_llmops.inference.sources import DEFAULT_ENCODER, resolve
from jupyter_llmops.retrieval import meanings
from jupyter_llmops.retrieval.meanings import BATCH, embedded, find
from jupyter_llmops.retrieval.words import WordIndex

PROMPTS = {
    "traduire": "Traduis le texte suivant en français : {{ text }}",
    "summary": "Summarise {{ text }} in one sentence for a busy reader",
    "sql-writer": "Write an SQL query that answers {{ question }} on the schema {{ schema }}",
    "codeReview": "Review this Python function and name what is wrong with it: {{ code }}",
    "sentiment": "Say whether the review is positive or negative. {{ review }}",
    "dinner": "Give a recipe with {{ ingredients }}",
}


class Counting:
    """The real encoder, counting what it is given."""

    def __init__(self, inner: Encoder) -> None:
        self.inner = inner
        self.space = inner.space
        self.given: list[str] = []

    def embed(self, texts: Sequence[str], progress: Any = None) -> Any:
        self.given += texts
        return self.inner.embed(texts, progress)

    def embed_query(self, text: str) -> Any:
        return self.inner.embed_query(text)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return open_encoder(resolve(DEFAULT_ENCODER), tmp_path_factory.mktemp("models"), offline=True)


@pytest.fixture
def encoder(minilm: Encoder, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(meanings, "_kept", {})
    return Counting(minilm)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="here", user="ana")


def names(found: list[meanings.Match]) -> list[str]:
    return [match.name for match in found]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("translate into French", "traduire"),
        ("shorten a long article", "summary"),
        ("database", "sql-writer"),
        ("debugging a program", "codeReview"),
        ("is this opinion good or bad?", "sentiment"),
        ("cooking", "dinner"),
    ],
)
def test_what_is_meant_is_found_without_a_common_word(
    catalog: Catalog, encoder: Any, query: str, wanted: str
) -> None:
    assert not find(catalog, "prompt", PROMPTS, query, None) or wanted == "summary"
    assert names(find(catalog, "prompt", PROMPTS, query, encoder))[0] == wanted


def test_what_nothing_is_about_finds_nothing(catalog: Catalog, encoder: Any) -> None:
    assert find(catalog, "prompt", PROMPTS, "xyzzy", encoder) == []
    assert find(catalog, "prompt", {}, "database", encoder) == []
    with pytest.raises(UsageError, match="nothing to look for"):
        find(catalog, "prompt", PROMPTS, "  ", encoder)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("recipe", "dinner"),
        ("recpie", "dinner"),
        ("francais", "traduire"),
        ("schem", "sql-writer"),
        ("code review", "codeReview"),
        ("SQL", "sql-writer"),
    ],
)
def test_words_are_found_with_typing_errors_and_without_accents(
    catalog: Catalog, query: str, wanted: str
) -> None:
    assert names(find(catalog, "prompt", PROMPTS, query, None))[0] == wanted


def test_a_whole_name_comes_first_and_why_is_said(catalog: Catalog, encoder: Any) -> None:
    texts = {"review": "Unrelated words", **PROMPTS, "long-one": "review " * 50}
    found = find(catalog, "prompt", texts, "Review", encoder)
    assert found[0].name == "review"
    assert {"codeReview", "sentiment", "long-one"} <= set(names(found))
    assert "has review" in found[0].why
    about = find(catalog, "prompt", PROMPTS, "translate into French", encoder)[0]
    assert about.why.startswith("meaning 0.")


def test_a_colleague_embeds_nothing_again_and_a_changed_text_anew(catalog: Catalog, encoder: Any) -> None:
    find(catalog, "prompt", PROMPTS, "database", encoder)
    assert sorted(encoder.given) == sorted(PROMPTS.values())
    encoder.given.clear()
    meanings._kept.clear()
    ben = Catalog(catalog.folder, site="there", user="ben")
    changed = PROMPTS | {"dinner": "Say which wine fits {{ dish }}"}
    assert names(find(ben, "prompt", changed, "what to drink with fish", encoder))[0] == "dinner"
    assert encoder.given == ["Say which wine fits {{ dish }}"]
    encoder.given.clear()
    find(catalog, "prompt", changed, "wine", encoder)  # sees what ben has just added
    assert encoder.given == []


def test_vectors_of_another_space_or_of_nonsense_are_ignored(catalog: Catalog, encoder: Any) -> None:
    digests = {name: meanings._digest(text) for name, text in PROMPTS.items()}
    wrong = np.ones(encoder.space.dimension, np.float32)
    other = [((name, digest), wrong) for name, digest in digests.items()]
    catalog.meanings.add("prompt", "sha256:another", other)
    assert names(find(catalog, "prompt", PROMPTS, "cooking", encoder))[0] == "dinner"
    space = space_digest(encoder.space)
    broken = {"dinner2": "Anything"}
    place = ("dinner2", meanings._digest("Anything"))
    catalog.meanings.add("prompt", space, [(place, np.full(encoder.space.dimension, np.inf, np.float32))])
    catalog.meanings.add("prompt", space, [(("short", "x"), wrong[:3])])
    found = find(catalog, "prompt", broken | PROMPTS, "cooking", encoder)
    assert names(found) == ["dinner"]
    infinite = np.full((1, 2), np.inf, np.float32)
    assert meanings.cosines_of(infinite, np.array([1, -1], np.float32), ["x"]) == {"x": 0.0}


def test_a_catalog_that_can_only_be_read_is_embedded_once(
    catalog: Catalog, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise CatalogError("It can't be written.")

    monkeypatch.setattr(catalog.meanings, "add", refuse)
    for _ in range(2):
        assert names(find(catalog, "prompt", PROMPTS, "cooking", encoder))[0] == "dinner"
    assert len(encoder.given) == len(PROMPTS)
    assert not catalog.folder.exists()


def test_private_texts_leave_no_vector_in_the_teams_catalog(
    catalog: Catalog, encoder: Any, tmp_path: Path
) -> None:
    own = Catalog(tmp_path / "own", site="here", user="ana")
    find(catalog, "prompt", PROMPTS, "cooking", encoder, own=own, own_names={"dinner"})
    space = space_digest(encoder.space)
    assert {name for name, _ in catalog.meanings.vectors("prompt", space).rows} == set(PROMPTS) - {"dinner"}
    assert {name for name, _ in own.meanings.vectors("prompt", space).rows} == {"dinner"}


def test_an_interruption_keeps_the_batches_before_it(catalog: Catalog, encoder: Any) -> None:
    texts = {f"p{number}": f"text {number}" for number in range(BATCH + 5)}
    said: list[float | None] = []

    def stop(_: str, fraction: float | None) -> None:
        said.append(fraction)
        if fraction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedded(catalog, "prompt", texts, encoder, stop)
    assert said[0] == 0
    assert len(catalog.meanings.vectors("prompt", space_digest(encoder.space)).rows) == BATCH
    encoder.given.clear()
    assert embedded(catalog, "prompt", texts, encoder).shape == (BATCH + 5, encoder.space.dimension)
    assert len(encoder.given) == 5


def test_common_words_find_nothing_beside_others() -> None:
    texts = [
        (f"p{number}", f"say if the {word} is good") for number, word in enumerate(["sun", "sea", "sky"])
    ]
    index = WordIndex(texts)
    assert [number for number, _, _ in index.search("if the moon and the sky is")] == [2]
    assert len(index.search("the")) == 3
