"""Secrets behind what ends in a letter or digit and is none, and tokens that only few rule sets know."""

from __future__ import annotations

import pytest

from jupyter_llmops.guard.redaction import Redactor

_TOKEN = "ghp_" + "zgWTs56mYZWuERE3INfZmySagGMLNl0ybuRb"
_LETTERS = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ2bC4eF6hJ8kL0nP2rS4tU6wX8zA1cD3fG5hJ7"


@pytest.mark.parametrize(
    "text",
    [
        r'print("user:\n{}")', r"a\t{}", r"a\r\n{}", r"\x00{}", r"\u0020{}", r"\0{}", r"\u001b[0m{}", r"\x1b[31m{}",
        r'"{{\"a\": \"b\\n{}\"}}"', "token%3D{}", "q=%20{}", "%0A{}", "%250A{}", "\x1b[31m{}\x1b[0m",
    ],
)  # fmt: skip
def test_a_token_behind_an_escape_is_found(text: str) -> None:
    redacted = Redactor({}).redact(text.format(_TOKEN))

    assert _TOKEN[4:] not in redacted.text
    assert redacted.found == ("github-token",)
    assert redacted.text == text.format("[redacted:github-token]")


def test_a_password_behind_an_escape_is_found() -> None:
    assert "hunter22x" not in Redactor({}).redact(r'"\npassword: hunter22x\n"').text


@pytest.mark.parametrize(
    "text",
    [
        r're.compile(r"\d+\s[a-f]\b")', r"'C:\new\table\names'", "100%dec of 20%ab", "f'{x:%Y%m%d}'", r"\nabla\beta",
        'print("%d%s" % (1, 2))', "| 123456789012345 | a | b |", "self.s.someAttributeName", "np.s.ThisIsNotATokenOfVault",
        "live_" + "x" * 40, "curl -u name: https://x", "test_that_a_name_of_a_test_is_no_key_of_lob",
    ],
)  # fmt: skip
def test_ordinary_escapes_and_names_stay(text: str) -> None:
    assert Redactor({}).redact(text).text == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Cookie: _gitlab_session={}", _LETTERS[:32].lower()),
        ("{}", "dnkey-" + _LETTERS[:26] + "-" + _LETTERS[:52]),
        ("{}", "s-s4t2ud-" + "0a1b2c3d" * 8),
        ("{}", "u-s4t2af-" + "0a1b2c3d" * 8),
        ("{}", "A" * 22 + _LETTERS[:30] + "%3D" + _LETTERS[:40]),
        ("vault login {}", "s." + _LETTERS[:24]),
        ("{}", "EAAA" + _LETTERS[:24]),
        ("{}", "sc_" + _LETTERS[:10] + ".a1b2.acc_" + _LETTERS[:20] + "." + _LETTERS[:40]),
        ("id {}", "123456789012345|" + _LETTERS[:27]),
        ('<add key="ClearTextPassword" value="{}" />', "tr0ub4dor&3"),
        ("curl -u :{} https://x", "tr0ub4dor3"),
        ("curl -u {}: https://x", _LETTERS[:24]),
        ("{}", "ZXlK" + _LETTERS + _LETTERS[:20]),
        ("{}", "live_" + "0a1b2c3d" * 4 + "abc"),
        ("{}", "live_" + _LETTERS[:40]),
    ],
)
def test_a_token_that_few_rule_sets_know_is_found(text: str, secret: str) -> None:
    redacted = Redactor({}).redact(text.format(secret))

    assert secret not in redacted.text
    assert redacted.found
