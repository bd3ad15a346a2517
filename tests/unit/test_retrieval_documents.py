"""What a user names becomes documents, or one sentence says why not."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Document
from jupyter_llmops.retrieval import files
from jupyter_llmops.retrieval.documents import documents_of, scalar


def listed(source: object, **options: str) -> list[Document]:
    return [document for document, _ in documents_of(source, **options)]


def test_a_frame_gives_texts_names_and_typed_metadata() -> None:
    frame = pd.DataFrame(
        {
            "number": [7, 8, 9],
            "body": ["one", None, np.nan],
            "year": [2020, 2021, 2022],
            "score": [0.5, np.nan, 1.0],
            "open": [True, False, True],
            "when": pd.to_datetime(["2024-01-02", None, "2024-01-03"]),
            "who": ["Ann", None, "Bob"],
        }
    )
    first, second, third = listed(frame, text="body", id="number")
    assert (first.name, first.text) == ("7", "one")
    assert first.metadata == {
        "year": 2020, "score": 0.5, "open": True, "when": "2024-01-02T00:00:00", "who": "Ann",
    }  # fmt: skip
    assert [type(value) for value in first.metadata.values()] == [int, float, bool, str, str]
    assert second.text == third.text == ""
    assert second.metadata == {"year": 2021, "open": False}


def test_rows_without_an_id_name_themselves_by_their_content_or_by_their_index() -> None:
    frame = pd.DataFrame({"text": ["a", "b"]})
    names = [document.name for document in listed(frame)]
    assert names == [document.name for document in listed(frame.iloc[::-1])][::-1]
    assert [d.name for d in listed(frame.set_index(pd.Index(["x", "y"])))] == ["x", "y"]
    assert len(listed(["same", "same", "other"])) == 2


def test_the_only_column_with_texts_needs_no_name() -> None:
    assert [d.text for d in listed(pd.DataFrame({"n": [1], "body": ["b"]}))] == ["b"]
    with pytest.raises(UsageError, match="--text with one of: body, title"):
        documents_of(pd.DataFrame({"body": ["b"], "title": ["t"]}))


def test_a_list_of_dicts_takes_text_and_id() -> None:
    (document,) = listed([{"id": 3, "text": "t", "tags": ["a", "b"]}])
    assert document == Document("3", "t", {"tags": '["a", "b"]'})
    with pytest.raises(UsageError, match="Item 2 of the list has no 'text'"):
        documents_of([{"text": "t"}, {"body": "t"}])


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (pd.DataFrame({"text": ["a"]}), {"text": "nope"}, "no column 'nope'"),
        (
            pd.DataFrame({"text": ["a", "b"], "id": [1, 1]}),
            {"id": "id"},
            "Two different documents have the id '1'",
        ),
        (pd.DataFrame({"text": [1.5], "b": ["x"]}), {"text": "text"}, "is a float, not a text"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), {}, "two columns of one name"),
        ([1], {}, "Item 1 of the list is an int"),
        (b"bytes", {}, "can't be taken from a bytes"),
        ({"text": "x"}, {}, "can't be taken from a dict"),
        ([{"id": " ", "text": "x"}], {}, "id of item 1 is empty"),
        ([{"id": "x" * 2000, "text": "x"}], {}, "id of item 1 is too long"),
        ("no/such/place", {}, "no file, folder or variable"),
        ("no\0path", {}, "can't be used|no file"),
        (".", {"text": "body"}, "files have none"),
    ],
)
def test_what_is_no_document_is_said_in_one_sentence(
    source: object, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        documents_of(source, **options)


def test_values_of_metadata_are_plain() -> None:
    assert [scalar(value) for value in (np.int64(3), np.float32(0.5), np.bool_(True), np.nan, pd.NA, pd.NaT)] == [
        3, 0.5, True, None, None, None,
    ]  # fmt: skip
    assert scalar(datetime(2024, 1, 2)) == "2024-01-02T00:00:00"  # noqa: DTZ001
    assert scalar({"b": 1, "a": "é"}) == '{"a": "é", "b": 1}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "deep" / ".hidden").mkdir(parents=True)
    (root / "a.txt").write_bytes("\ufeffeins\r\nzwei".encode())
    (root / "deep" / "b.MD").write_text("# B", "utf-8")
    (root / "deep" / ".hidden" / "c.txt").write_text("hidden", "utf-8")
    (root / ".d.txt").write_text("hidden", "utf-8")
    (root / "e.csv").write_text("x", "utf-8")
    (root / "latin.txt").write_bytes("é".encode("latin-1"))
    (root / "zero.txt").write_bytes(b"a\0b")
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Title\n", "text"]},
        {"cell_type": "code", "metadata": {}, "execution_count": None, "source": "  ", "outputs": []},
        {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": "x = 1", "outputs": []},
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    (root / "n.ipynb").write_text(json.dumps(notebook), "utf-8")
    (root / "broken.ipynb").write_text('{"cells": 3}', "utf-8")
    return root


def test_a_folder_is_read_and_what_is_no_text_is_told(folder: Path) -> None:
    source = documents_of(str(folder))
    found = {document.name: document for document, _ in source}
    assert set(found) == {"a.txt", "deep/b.MD", "n.ipynb"}
    assert found["a.txt"].text == "eins\r\nzwei"
    reasons = dict(source.skipped)
    assert set(reasons) == {"latin.txt", "zero.txt", "broken.ipynb"}
    assert "UTF-8" in reasons["latin.txt"]
    notebook = found["n.ipynb"]
    assert [section.metadata for section in notebook.sections] == [{"cell": 1}, {"cell": 3}]
    assert [notebook.text[s.start : s.end] for s in notebook.sections] == ["# Title\ntext", "x = 1"]


def test_a_link_leads_nowhere_out_and_a_pipe_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret", "utf-8")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "o.txt").write_text("outside", "utf-8")
    (folder / "linked").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe.txt")
    source = documents_of(folder)
    names = {document.name for document, _ in source}
    assert names == {"a.txt", "deep/b.MD", "n.ipynb"}
    assert ("pipe.txt", "it is no ordinary file") in source.skipped


def test_large_and_unreadable_files_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST_FILE", 5)
    source = documents_of(folder / "a.txt")
    assert list(source) == []
    assert source.skipped[0][0] == "a.txt"
    with pytest.raises(UsageError, match=r"none of .txt, .md, .ipynb"):
        documents_of(folder / "e.csv")
