"""Reading a trail back and checking it: newer leaves, strange lines, what each problem says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.audit import leaf as leaves
from jupyter_llmops.audit.files import Head, Mark, content_path, head_path, journal_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_content, read_runs
from jupyter_llmops.audit.verification import verify
from jupyter_llmops.display.verification import verification_html, verification_text
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.run import Problem, Verification
from jupyter_llmops.records.trail import Gap


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "audit"
    journal = Journal(folder, session="s", context={"user": "ada", "host": "here"})
    for number in range(4):
        journal.stamp("cell", fields={"execution_count": number}, content={"source": f"x = {number}"})
    journal.close()
    return folder


def lines_of(folder: Path) -> list[bytes]:
    return journal_path(folder, "s").read_bytes().split(b"\n")[:-1]


def rewrite(folder: Path, lines: list[bytes]) -> None:
    """Write lines, with a head that fits them."""
    journal_path(folder, "s").write_bytes(b"".join(line + b"\n" for line in lines))
    mark = Mark(len(lines) - 1, hashlib.sha256(lines[-1]).hexdigest())
    head_path(folder, "s").write_bytes(Head(mark, mark, closed=True).to_bytes())


def changed(line: bytes, **values: Any) -> bytes:
    return leaves.canonical({**json.loads(line), **values})


def test_one_changed_byte_names_the_record(folder: Path) -> None:
    path = journal_path(folder, "s")
    data = path.read_bytes()
    runs = list(read_runs(path))
    for place in range(0, len(data), 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        verification = verify(folder)
        seq = data[:place].count(b"\n")
        problem = next(problem for problem in verification.problems if problem.seq == seq)
        assert problem.session == "s"
        assert f"session s, record {seq}" in problem.message
        # A byte of the id itself is the one place where the record's id is not what it was.
        assert problem.run_id in (runs[seq].id, "") or len(problem.run_id) <= 16
    path.write_bytes(data)
    assert verify(folder).ok


def test_the_form_is_checked_where_the_chain_fits(folder: Path) -> None:
    lines = lines_of(folder)
    rewrite(folder, [*lines[:-1], json.dumps(json.loads(lines[-1])).encode()])
    (problem,) = verify(folder).problems
    assert problem.seq == 4
    assert "canonical" in problem.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seq": 9}, "its number is 9"),
        ({"session": "other"}, "belongs to session 'other'"),
        ({"schema": "another/1"}, "not a record of this trail"),
        ({"hash": "md5"}, "unknown hash"),
    ],
)
def test_values_are_checked_where_the_chain_fits(folder: Path, values: dict[str, Any], words: str) -> None:
    lines = lines_of(folder)
    rewrite(folder, [*lines[:-1], changed(lines[-1], **values)])
    assert any(words in problem.message for problem in verify(folder).problems)


def test_an_id_may_not_stand_twice(folder: Path) -> None:
    lines = lines_of(folder)
    rewrite(folder, [*lines[:-1], changed(lines[-1], id=json.loads(lines[1])["id"])])
    assert any(
        "its id stands in session s, record 1, too" in problem.message for problem in verify(folder).problems
    )


def test_records_after_a_closed_end_are_named(folder: Path) -> None:
    lines = lines_of(folder)
    more = changed(lines[-1], seq=5, prev=hashlib.sha256(lines[-1]).hexdigest(), id="0" * 16, digests={})
    with journal_path(folder, "s").open("ab") as file:
        file.write(more + b"\n")
    (problem,) = verify(folder).problems
    assert (problem.seq, problem.run_id) == (5, "0" * 16)
    assert "records were added after record 4" in problem.message


def test_a_leaf_of_a_newer_schema_is_shown_read_only_and_verifies(folder: Path) -> None:
    lines = lines_of(folder)
    newer = changed(
        lines[-1], schema="llmops.leaf/9", kind="dream", status="paused", execution_count="x", digests=7
    )
    rewrite(folder, [*lines[:-1], newer])
    run = list(read_runs(journal_path(folder, "s")))[-1]
    assert run.read_only
    assert run.kind == "dream"
    assert run.execution_count is None
    assert run.leaf is not None
    assert run.leaf["status"] == "paused"
    verification = verify(folder)
    assert all("content" in problem.message for problem in verification.problems)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}",
        b'{"schema":7}',
        b"[" * 100_000,
        b'{"schema":"llmops.leaf/1"}',
    ],
)
def test_strange_lines_are_passed_over_and_named(folder: Path, line: bytes) -> None:
    lines = lines_of(folder)
    rewrite(folder, [*lines[:2], line, *lines[3:]])
    runs = list(read_runs(journal_path(folder, "s")))
    assert {1, 3, 4} <= {run.seq for run in runs}
    assert any(problem.seq == 2 for problem in verify(folder).problems)


def test_read_runs_after(folder: Path) -> None:
    assert [run.seq for run in read_runs(journal_path(folder, "s"), after=2)] == [3, 4]


def test_a_missing_journal_is_said_in_one_sentence(folder: Path) -> None:
    with pytest.raises(AuditError, match="can't be read"):
        list(read_runs(folder / "journal" / "no.jsonl"))
    assert list_journals(folder / "nowhere") == []
    assert verify(folder / "nowhere") == Verification(0, 0)


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"{}", b'{"schema":"llmops.content/1","id":"x","content":{}}', b"\xff"]
)
def test_damaged_content_raises_one_sentence(folder: Path, data: bytes) -> None:
    run = list(read_runs(journal_path(folder, "s")))[1]
    path = content_path(folder, "s", 1)
    path.write_bytes(data)
    with pytest.raises(AuditError, match=run.id):
        read_content(folder, run)
    assert any(problem.run_id == run.id for problem in verify(folder).problems)
    path.write_bytes(b"")
    assert read_content(folder, run) is None
    for _ in range(2):
        (problem,) = verify(folder).problems
        assert (problem.seq, problem.run_id) == (1, run.id)
        assert "deleted without a word" in problem.message
        path.unlink(missing_ok=True)
        assert read_content(folder, run) is None


def test_published_rows_are_compared(folder: Path) -> None:
    rows = {run.seq: run.leaf_digest for run in read_runs(journal_path(folder, "s"))}
    assert verify(folder, published={"s": rows}).ok
    (problem,) = verify(folder, published={"s": {**rows, 2: "sha256:" + "0" * 64}}).problems
    assert problem.seq == 2
    (problem,) = verify(folder, published={"s": {**rows, 9: "sha256:" + "0" * 64}}).problems
    assert problem.seq == 9
    (problem,) = verify(folder, published={"s": rows, "gone": {0: "x", 1: "y"}}).problems
    assert (problem.session, problem.seq) == ("gone", None)
    assert "2 of its records are in the catalog" in problem.message
    assert verify(folder, published={"gone": {}}).ok


def test_a_living_journal_verifies_between_its_stamps(tmp_path: Path) -> None:
    journal = Journal(tmp_path, session="s")
    for _ in range(50):
        journal.stamp("cell", content={"source": "x"})
        verification = verify(tmp_path)
        assert verification.ok, verification.problems
    journal.close()


def test_views_say_the_verdict_and_escape(folder: Path) -> None:
    good = verify(folder)
    assert verification_text(good).startswith("✓ 5 records in 1 session verified")
    assert "unwitnessed" in verification_text(good)
    assert "unwitnessed" in verification_html(good)
    problems = tuple(
        Problem("s", n, "<id>", f"session s, record {n} (run <id>): it was <b>changed</b>") for n in range(60)
    )
    bad = Verification(1, 5, problems, ("a <note>",))
    text = verification_text(bad)
    assert text.startswith("✗ 60 problems found in 5 records in 1 session")
    assert "it was <b>changed</b>" in text
    assert "and 10 more" in text
    html = verification_html(bad)
    assert "<b>changed" not in html
    assert "&lt;b&gt;changed" in html
    assert "a &lt;note&gt;" in html
    assert "and 10 more" in html
    assert "nothing is recorded yet" in verification_text(Verification(0, 0))


def test_in_a_narrow_output_the_sentence_has_room_and_the_names_give_way() -> None:
    session = "20261123T002614Z-f80e8d59-k0123456789abcdef"
    gap = Gap(
        "missing count", "it ran", session=session, notebook="/team/zoo.ipynb", first_count=1, last_count=2
    )
    found = Verification(1, 1, (Problem(session, 9, "abcd", "it was changed"),), (), (gap,))
    html = verification_html(found)
    assert html.count("<th ") == 4  # two columns each, not four side by side
    for names in (f"{session} · record 9 · run abcd", f"2 cells · {session} · /team/zoo.ipynb"):
        assert f'overflow-wrap:anywhere">{names}</div>' in html
    for sentence in ("it was changed", "it ran"):
        assert f'min-width:14em;overflow-wrap:break-word">{sentence}</div>' in html


def test_planted_texts_do_nothing_to_a_terminal() -> None:
    wild = "\x1b[2J\u202e\n"
    gap = Gap("no log", f"it {wild}", session=wild)
    found = Verification(1, 1, (Problem(wild, None, wild, f"session {wild}: {wild}"),), (wild,), (gap,))
    for view in (verification_text(found), verification_html(found)):
        assert "\x1b" not in view
        assert "\u202e" not in view
        assert "\\x1b[2J\\u202e\\n" in view


def test_views_say_what_is_not_covered_and_who_has_witnessed() -> None:
    gaps = tuple(
        Gap(
            "missing count",
            f"cells {n} to {n + 1} are in <no> log",
            session="s",
            first_count=n,
            last_count=n + 1,
        )
        for n in range(30)
    )
    found = Verification(2, 1500, (), ("1,000 of 1,500 …",), gaps, 1000, ("bob@there",))
    text, html = verification_text(found), verification_html(found)
    for view in (text, html):
        assert "1,500 records in 2 sessions verified, 1,000 of them witnessed" in view
        assert "60 cells ran and are in no log" in view
        assert "and 10 more" in view
    assert "cells 3 to 4 are in <no> log" in text
    assert "cells 3 to 4 are in &lt;no&gt; log" in html
    assert "<no>" not in html
    # Every colour is the theme's, with a fallback, so that it fits a dark one too.
    assert all("var(--jp-" in part for part in html.replace("border-color", "").split("color:")[1:])
    whole = Verification(1, 7, (), (), gaps[:1], 7, ("bob@there",))
    assert "7 records in 1 session verified, all of them witnessed" in verification_text(whole)
    one = Verification(1, 7, (), (), (Gap("not finished", "it never ended"),))
    assert "1 cell ran and is in no log, so nothing is proven of it" in verification_text(one)
