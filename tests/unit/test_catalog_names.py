from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llmops.catalog.names import RESERVED_NAMES, check_name
from jupyter_llmops.errors import UsageError


@pytest.mark.parametrize(
    "name", ["a", "Résumé", "要約", "my prompt", "team/summary", "../etc/passwd", "a'b\\c", "x" * 200, "🙂"]
)
def test_any_printable_name_is_valid_as_it_is_never_a_path(name: str) -> None:
    assert check_name("prompt", name) == name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "can't be empty"),
        ("   ", "can't be empty"),
        ("x" * 201, "at most 200"),
        ("new", "sub-command"),
        ("Show", "sub-command"),
        (" padded", "begins or ends with a space"),
        ("-m", "read as an option"),
        ("two\nlines", "can't hold"),
        ("key\x1f3", "can't hold"),
        ("greeting@3", "can't hold"),
        ("\u202eevil", "can't hold"),
    ],
)
def test_the_complaint_names_the_reason_and_a_name_that_works(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        check_name("prompt", name)
    suggested = caught.value.hint.removeprefix("Use for example ").removesuffix(".").strip("'\"")
    assert check_name("prompt", suggested) == suggested


@given(st.text(max_size=220))
def test_every_suggestion_is_itself_valid(name: str) -> None:
    try:
        assert check_name("model", name) == unicodedata.normalize("NFC", name)
    except UsageError as error:
        import ast

        suggested = ast.literal_eval(error.hint.removeprefix("Use for example ").removesuffix("."))
        assert check_name("model", suggested) == suggested


def test_the_two_spellings_of_an_accent_are_one_name() -> None:
    assert check_name("prompt", "Re\u0301sume\u0301") == "Résumé"


def test_the_sub_commands_of_the_contract_are_reserved() -> None:
    wanted = {"find", "show", "add", "retire", "diff", "history", "promote", "new", "run"}
    assert wanted <= RESERVED_NAMES
