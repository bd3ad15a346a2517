"""Views of prompts: nothing of a text is lost in a comparison, nothing of it becomes markup."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st

from jupyter_llmops.display.prompt import (
    alias_words,
    prompt_files_html,
    prompt_files_text,
    prompt_history_html,
    prompt_history_text,
    prompt_html,
    prompt_text,
    saved_line,
)
from jupyter_llmops.display.prompt_diff import aligned, changed_words, prompt_diff_html, prompt_diff_text
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.prompt import (
    Prompt,
    PromptDiff,
    PromptEvent,
    PromptFile,
    PromptFiles,
    PromptHistory,
    Variable,
)

EVIL = "<script>alert('x')</script>&amp;"
LINES = st.lists(st.sampled_from(["a", "b", "c", "", "x y", "x z"]), max_size=12).map("\n".join)


@given(LINES | st.text(), LINES | st.text())
@example("", "a")
@example("a\n", "a")
def test_both_sides_of_a_comparison_are_the_texts(left: str, right: str) -> None:
    rows = aligned(left, right)
    assert "\n".join(row.left for row in rows if row.left is not None) == left
    assert "\n".join(row.right for row in rows if row.right is not None) == right
    assert [row.left_number for row in rows if row.left is not None] == list(
        range(1, sum(row.left is not None for row in rows) + 1)
    )
    assert all(row.is_same for row in rows) == (left == right)


@given(st.text(), st.text())
def test_changed_words_are_the_lines(left: str, right: str) -> None:
    lefts, rights = changed_words(left, right)
    assert "".join(text for text, _ in lefts) == left
    assert "".join(text for text, _ in rights) == right
    assert [text for text, changed in lefts if not changed] == [
        text for text, changed in rights if not changed
    ]
    assert any(changed for _, changed in (*lefts, *rights)) == (left != right)


def test_one_changed_word_is_marked_alone() -> None:
    lefts, rights = changed_words("Say it in one word.", "Say it in two words.")
    assert [text for text, changed in lefts if changed] == ["one", "word"]
    assert [text for text, changed in rights if changed] == ["two", "words"]


def test_every_part_of_the_content_is_compared() -> None:
    older = Prompt("p", 1, "d", "one\ntwo\nthree", system="Be kind", parameters=(("seed", 1),))
    newer = replace(
        older,
        version=2,
        template="one\n2\nthree",
        system="Be brief",
        parameters=(("seed", 2),),
        model="other",
        declarations=(Variable("n", "int", 3, has_default=True),),
    )
    text = prompt_diff_text(PromptDiff(older, newer))
    assert text.splitlines() == [
        "--- p@1",
        "+++ p@2",
        "@@ template @@",
        "  one",
        "- two",
        "+ 2",
        "  three",
        "@@ system @@",
        "- Be kind",
        "+ Be brief",
        "@@ variables @@",
        "+ n: int = 3",
        "@@ model @@",
        "+ other",
        "@@ parameters @@",
        "- seed = 1",
        "+ seed = 2",
    ]
    shown = html.unescape(re.sub(r"<[^>]*>", "", prompt_diff_html(PromptDiff(older, newer))))
    for part in ("p@1", "p@2", "two", "Be kind", "Be brief", "n: int = 3", "other", "seed = 2"):
        assert part in shown
    assert "same content" in prompt_diff_text(PromptDiff(older, replace(older, name="q")))
    assert "same content" in prompt_diff_html(PromptDiff(older, replace(older, name="q")))


def test_far_lines_are_left_out_and_long_texts_end() -> None:
    left = "\n".join(f"line {n}" for n in range(100))
    diff = PromptDiff(Prompt("p", 1, "d", left), Prompt("p", 2, "d", left.replace("line 50", "LINE 50")))
    lines = prompt_diff_text(diff).splitlines()
    assert lines[3:] == [
        "  …", "  line 47", "  line 48", "  line 49", "- line 50", "+ LINE 50", "  line 51", "  line 52", "  line 53", "  …",
    ]  # fmt: skip
    words = " ".join(f"word{n}" for n in range(10_000))
    huge = PromptDiff(
        Prompt("p", 1, "d", words + "\nx\n" * 20_000), Prompt("p", 2, "d", "y\n" * 20_000 + words)
    )
    assert len(prompt_diff_text(huge)) < 500_000
    assert len(prompt_diff_html(huge)) < 500_000


def test_a_comparison_suits_light_and_dark_pages() -> None:
    diff = PromptDiff(Prompt("p", 1, "d", "a b"), Prompt("p", 2, "d", "a c"))
    colors = re.findall(r"(?:background|color):([^;\"]+)", prompt_diff_html(diff))
    assert colors
    assert all(color.startswith(("rgba(", "var(--jp-", "transparent")) for color in colors)


def test_nothing_of_a_prompt_becomes_markup() -> None:
    prompt = Prompt(
        EVIL, 1, EVIL, EVIL, system=EVIL, variables=(EVIL,), model=EVIL, parameters=((EVIL, EVIL),),
        description=EVIL, created_by=EVIL, site=EVIL, declarations=(Variable(EVIL, "str", EVIL, has_default=True),),
        includes=(EVIL,), tags=(EVIL,), aliases=(EVIL,), alias_moves=(Change(EVIL, EVIL, EVIL, EVIL, 1, EVIL, EVIL),),
    )  # fmt: skip
    event = PromptEvent(EVIL, EVIL, EVIL, EVIL, datetime.now(UTC), EVIL)
    shown = [
        prompt_html(prompt),
        prompt_diff_html(PromptDiff(prompt, replace(prompt, template=EVIL + EVIL, system=""))),
        prompt_history_html(PromptHistory(EVIL, (event, replace(event, what="version")))),
        prompt_files_html(PromptFiles(EVIL, (PromptFile(EVIL, EVIL, 1, "problem", EVIL),))),
        prompt_files_html(PromptFiles(EVIL, ())),
    ]
    for text in shown:
        assert "<script" not in text
        assert "script" in text


def test_texts_say_what_there_is() -> None:
    now = datetime.now(UTC)
    prompt = Prompt(
        "p", 2, "d", "Hi {{ n }}", variables=("n",), created_at=now, aliases=("prod",), private=True, retired=True,
        declarations=(Variable("n", "int", 3, has_default=True, description="how many"),), tags=("a",), includes=("h@1",),
    )  # fmt: skip
    moves = (
        Change("prompt", "p", "alias:old", 1, 1, created_by="bob", created_at=now),
        Change("prompt", "p", "alias:prod", 2, 3),
    )
    prompt = replace(prompt, alias_moves=moves)
    assert alias_words(prompt) == "old → 1, prod"
    assert "old → 1, moved by bob just now" in prompt_text(prompt)
    assert "1,000 characters more" in prompt_html(replace(prompt, template="x" * 51_000))
    text = prompt_text(prompt)
    for part in ("p@2 (prod, yours, retired)", "n: int = 3  (how many)", "h@1", "Hi {{ n }}"):
        assert part in text
    history = PromptHistory(
        "p",
        (
            PromptEvent("version", "1", "Hi", "ada", now, "lab"),
            PromptEvent("alias:prod", "1", "", "bob", now, "lab"),
            PromptEvent("alias:prod", "", "", "bob", now, "lab"),
            PromptEvent("retired", "yes", "old", "bob", now, "lab"),
            PromptEvent("retired", "", "", "bob", now, "lab"),
        ),
    )
    text = prompt_history_text(history)
    for part in ("version 1", "prod → 1", "prod taken away", "retired", "restored", "bob"):
        assert part in text
    assert list(history.df["what"])[:2] == ["version", "alias:prod"]
    files = PromptFiles(
        "f", (PromptFile("a.md", "a", 1, "new"), PromptFile("b.md", "", 0, "problem", "Line 3: no"))
    )
    assert "f: 1 new, 1 problem" in prompt_files_text(files)
    assert "Line 3: no" in prompt_files_text(files)
    assert [file.file for file in files.problems] == ["b.md"]
    assert "new version" in saved_line(prompt, is_new=True)
    assert "no new version" in saved_line(prompt, is_new=False)
