"""Secrets by reference: the place is named, the value never."""

from __future__ import annotations

import sys

import pytest

from jupyter_llmops.errors import InferenceError, MissingDependencyError, UsageError
from jupyter_llmops.inference.credentials import check_reference, secret


def test_a_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-1")
    assert secret("env:TEAM_KEY") == "sk-1"
    assert secret("") == ""


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_KEY", raising=False)
    with pytest.raises(InferenceError, match="environment variable TEAM_KEY is empty or not set"):
        secret("env:TEAM_KEY")


@pytest.mark.parametrize("value", ["sk\r\nX-Evil: 1", "two words", "sk-é"])
def test_a_value_that_is_no_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TEAM_KEY", value)
    with pytest.raises(InferenceError, match="TEAM_KEY does not hold a key") as caught:
        secret("env:TEAM_KEY")
    assert value not in str(caught.value)


@pytest.mark.parametrize(
    "typed", ["sk-proj-4f6a", "env:sk-proj-4f6a", "env:", "keyring:x", "file:/etc/passwd"]
)
def test_a_key_typed_in_place_of_its_name_is_not_repeated(typed: str) -> None:
    with pytest.raises(UsageError, match=r"never the secret itself.*env:NAME") as caught:
        check_reference(typed)
    assert "4f6a" not in str(caught.value)


def test_a_secret_is_read_from_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return "sk-2" if (service, username) == ("llm", "ann") else None

        def set_password(self, service: str, username: str, password: str) -> None:
            raise NotImplementedError

        def delete_password(self, service: str, username: str) -> None:
            raise NotImplementedError

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        assert secret("keyring:llm/ann") == "sk-2"
        with pytest.raises(InferenceError, match="keyring entry llm/bob is empty"):
            secret("keyring:llm/bob")
    finally:
        keyring.set_keyring(before)


def test_without_the_keyring_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(MissingDependencyError, match=r"jupyter-llmops\[keyring\]"):
        secret("keyring:llm/ann")
