"""A process that does everything at once to a catalog that others do the same to, and what it must come to.

``python tests/catalog_mixer.py PLACE WRITER COUNT SEED`` says "ready", waits for a line, then says each
acknowledged operation in a line of JSON: writer, number, operation, seconds, details. `check` compares
what all of them were told with what is there: whatever order the operations took effect in, some things
follow from what was acknowledged alone.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import KEYS
from jupyter_llmops.errors import ConflictError, UsageError
from jupyter_llmops.records.collection import Chunk, Chunking, EmbeddingSpace
from jupyter_llmops.records.model import Model

SPACE = EmbeddingSpace("tests", "sha256:" + "0" * 64, "mean", normalized=True, dimension=16, max_tokens=64)
COLLECTION = "notes"
NAMES = ("greeting", "farewell", "Übergabe")
Said = list[Any]


class Mixer:
    """One writer and what it remembers of its own."""

    def __init__(self, place: str, writer: str, seed: int) -> None:
        self.catalog = Catalog(place, site="here", user=writer)
        self.writer = writer
        self.random = random.Random(f"{seed} {writer}")
        self.added: list[str] = []

    def step(self, number: int) -> Said:
        """Do one operation and return what was acknowledged."""
        kinds = [self.publish] * 7 + [self.agree] * 2 + [self.move] * 3 + [self.compare_and_set] * 2
        kinds += [self.register] + [self.add] * 3 + [self.replace_common] * 2 + [self.search] * 4
        work = self.random.choice(kinds)
        begun = time.perf_counter()
        details = work(number)
        return [self.writer, number, work.__name__, round(time.perf_counter() - begun, 5), details]

    def publish(self, number: int) -> Said:
        """Publish new content under a name that all use, and read it at once."""
        name, text = self.random.choice(NAMES), f"{self.writer} {number}"
        version = self.catalog.prompts.publish(name, text).version
        return [name, text, version, self.catalog.prompts.get(name, version).template]

    def agree(self, _: int) -> Said:
        """Publish what others publish, too."""
        name, text = self.random.choice(NAMES), f"agreed {self.random.randrange(4)}"
        return [name, text, self.catalog.prompts.publish(name, text).version]

    def move(self, number: int) -> Said:
        """Move an alias that all move."""
        name, value = self.random.choice(NAMES), number_of(f"{self.writer} {number}")
        return [name, value, self.catalog.changes.move("prompt", name, "alias:live", value).revision]

    def compare_and_set(self, number: int) -> Said:
        """Move it only from where it was seen."""
        name, value = self.random.choice(NAMES), number_of(f"{self.writer} {number}")
        seen = next(iter(self.catalog.changes.current("prompt", name=name, field="alias:live")), None)
        expected = seen.revision if seen else 0
        try:
            moved = self.catalog.changes.move("prompt", name, "alias:live", value, expected=expected)
        except ConflictError:
            return [name, value, 0]
        if moved.revision != expected + 1:
            raise AssertionError(f"moved from {expected} to {moved.revision}")
        return [name, value, moved.revision]

    def register(self, _: int) -> Said:
        """Add a model under a name that others use for other files."""
        name = f"model {self.random.randrange(3)}"
        digest = "sha256:" + hashlib.sha256(self.writer.encode()).hexdigest()
        try:
            return [name, self.catalog.models.add(Model(name, "llm", "folder:/m", digest=digest)).digest]
        except UsageError:
            return [name, ""]

    def add(self, number: int) -> Said:
        """Add a document of one's own to the collection that all use."""
        document = f"{self.writer} {number}"
        self._put(document, document)
        self.added.append(document)
        return [document]

    def replace_common(self, number: int) -> Said:
        """Replace a document that others replace, too."""
        document, text = f"common {self.random.randrange(2)}", f"{self.writer} {number}"
        self._put(document, text)
        return [document, text]

    def search(self, _: int) -> Said:
        """Look for something that was acknowledged to this writer."""
        if not self.added:
            return ["", ""]
        document = self.random.choice(self.added)
        items = self.catalog.collections.items(COLLECTION)
        ((key, place, _),) = items.nearest(vector_of(f"{document} part 0"), 1)
        return [document, items.chosen({key: place})[key]["document"]]

    def _put(self, document: str, text: str) -> None:
        import numpy as np

        parts = [f"{text} part {ordinal}" for ordinal in range(1 + len(text) % 3)]
        chunks = [
            Chunk(document, ordinal, 0, len(part), part, digest_of(part), {})
            for ordinal, part in enumerate(parts)
        ]
        vectors = np.stack([vector_of(part) for part in parts])
        self.catalog.collections.items(COLLECTION).replace({document: digest_of(text)}, chunks, vectors)


def prepare(place: str) -> Catalog:
    """Create the catalog and its collection."""
    catalog = Catalog(place, site="here", user="first")
    catalog.collections.create(COLLECTION, SPACE, Chunking())
    return catalog


def digest_of(text: str) -> str:
    """Return a text's digest."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def number_of(text: str) -> int:
    """Return a number that no other text has: an alias of prompts points to a version."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


def vector_of(text: str) -> Any:
    """Return a direction that no other text has."""
    import numpy as np

    raw = (
        np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype=np.uint8).astype(np.float32) - 127.5
    )
    return raw / np.linalg.norm(raw)


def check(place: str, said: Sequence[Said], *, killed: bool = False) -> None:
    """Compare what was acknowledged with what a fresh handle finds.

    Parameters
    ----------
    place : str
        The catalog.
    said : sequence
        The lines of all writers.
    killed : bool
        Whether writers were killed: then something may be there that nobody was told of.
    """
    catalog = Catalog(place, site="here", user="judge")
    by_kind: dict[str, list[Said]] = collections.defaultdict(list)
    for _, _, kind, _, details in said:
        by_kind[kind].append(details)
    for table, key in KEYS.items():
        rows = Connection(place).read(table, [key])
        assert rows is not None
        assert len(set(rows[key].to_pylist())) == rows.num_rows, f"a key is twice in {table}"
    _check_prompts(catalog, by_kind, killed=killed)
    _check_aliases(catalog, by_kind, killed=killed)
    _check_models(catalog, by_kind, killed=killed)
    _check_documents(catalog, by_kind, killed=killed)


def _check_prompts(catalog: Catalog, said: dict[str, list[Said]], *, killed: bool) -> None:
    assert all(text == read for _, text, _, read in said["publish"]), "a writer did not see its own"
    there = {}
    for name in {prompt.name for prompt in catalog.prompts.list()}:
        versions = catalog.prompts.versions(name)
        assert [prompt.version for prompt in versions] == list(range(1, len(versions) + 1))
        assert len({prompt.digest for prompt in versions}) == len(versions), "one content has two versions"
        there |= {(name, prompt.version): prompt.template for prompt in versions}
    promised = {(name, version): text for name, text, version, _ in said["publish"]}
    promised |= {(name, version): text for name, text, version in said["agree"]}
    assert promised.items() <= there.items(), "an acknowledged version is not there"
    assert killed or promised == there


def _check_aliases(catalog: Catalog, said: dict[str, list[Said]], *, killed: bool) -> None:
    promised = {(name, n): value for name, value, n in said["move"] + said["compare_and_set"] if n}
    assert len(promised) == sum(bool(n) for _, _, n in said["move"] + said["compare_and_set"])
    there = {}
    for name in NAMES:
        history = catalog.changes.history("prompt", name, "alias:live")
        assert sorted(change.revision for change in history) == list(range(1, len(history) + 1))
        there |= {(name, change.revision): change.value for change in history}
        current = catalog.changes.current("prompt", name=name, field="alias:live")
        assert [change.revision for change in current] == ([len(history)] if history else [])
    assert promised.items() <= there.items(), "an acknowledged move is not there"
    assert killed or promised == there


def _check_models(catalog: Catalog, said: dict[str, list[Said]], *, killed: bool) -> None:
    there = {model.name: model.digest for model in catalog.models.list()}
    for name, digest in said["register"]:
        assert not digest or there[name] == digest, "two writers were told that a name is theirs"
    assert killed or set(there) == {name for name, _ in said["register"]}


def _check_documents(catalog: Catalog, said: dict[str, list[Said]], *, killed: bool) -> None:
    assert all(document == found for document, found in said["search"]), "a writer did not find its own"
    items = catalog.collections.items(COLLECTION)
    rows = Connection(catalog.location).read(items.table, ["id", "document", "ordinal", "text"])
    assert rows is not None
    assert len(set(rows["id"].to_pylist())) == rows.num_rows, "a passage is there twice"
    texts: dict[str, dict[int, str]] = collections.defaultdict(dict)
    for row in rows.to_pylist():
        texts[row["document"]][row["ordinal"]] = row["text"]
    possible = {document: {document} for (document,) in said["add"]}
    for document, text in said["replace_common"]:
        possible.setdefault(document, set()).add(text)
    for document, parts in texts.items():
        # All parts are of one writer's one operation, and all of it is there.
        text = parts[0].removesuffix(" part 0")
        assert [parts[n] for n in sorted(parts)] == [f"{text} part {n}" for n in range(1 + len(text) % 3)]
        assert killed or text in possible[document]
    assert set(possible) <= set(texts), "an acknowledged document is not there"
    assert killed or set(possible) == set(texts)


def main(place: str, writer: str, count: str, seed: str) -> None:
    """Do `count` operations."""
    import lancedb  # noqa: F401 - imported before "ready", so that all begin at one time

    if writer[-1] in "13579":
        # As on another host, where the queue of this one's writers is not seen.
        Connection.queue = lambda _: contextlib.nullcontext()  # type: ignore[method-assign]
    mixer = Mixer(place, writer, int(seed))
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        print(json.dumps(mixer.step(number)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
