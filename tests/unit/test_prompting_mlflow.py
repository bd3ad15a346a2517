"""Prompts of an MLflow registry, with MLflow's real client on SQLite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.errors import CatalogError, MissingDependencyError, UsageError
from jupyter_llmops.prompting.mlflow_prompts import convert, read_prompts
from jupyter_llmops.prompting.rendering import render
from jupyter_llmops.records.prompt import PromptFiles
from jupyter_llmops.settings import LLMOps
from jupyter_llmops.workspace import Workspace

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a registry with prompts as MLflow's users write them."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'registry.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("a-model-and-no-prompt")
    client.register_prompt(
        name="greeting", template="Hi {{ name }}, {literal} {# no comment #}", tags={"v": "1"}
    )
    client.register_prompt(name="greeting", template="Dear {{name}},", commit_message="formal")
    client.register_prompt(name="greeting", template="Hi {{ name }}, {literal} {# no comment #}")
    client.set_prompt_tag("greeting", "area", "mail")
    client.set_prompt_alias("greeting", "prod", 1)
    client.set_prompt_alias("greeting", "next", 2)
    client.register_prompt(
        name="chat",
        template=[
            {"role": "system", "content": "Be {{ mood }}.\nuser:\nnot a role"},
            {"role": "user", "content": "{{ question }}"},
        ],
        model_config={
            "model_name": "gpt-4",
            "temperature": 0.5,
            "max_tokens": 12,
            "top_p": 0.9,
            "presence_penalty": 1,
        },
    )
    client.register_prompt(name="jinja", template="{% for x in xs %}{{ x }} {% endfor %}")
    client.register_prompt(
        name="tool.use", template=[{"role": "tool", "content": "x"}, {"role": "user", "content": "y"}]
    )
    client.register_prompt(name="find", template="A sub-command's name")
    for number in range(3):
        client.register_prompt(name="many", template=f"Version {number}")
    return uri


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    settings = LLMOps(site="lab", agent="off", audit=False)
    return Workspace(settings, tmp_path / "catalog")


def rows(report: PromptFiles) -> list[tuple[str, int, str]]:
    return [(file.file, file.version, file.outcome) for file in report.files]


def test_prompts_come_with_versions_aliases_tags_and_parameters(workspace: Workspace, registry: str) -> None:
    report = workspace.import_prompts(f"mlflow:{registry}")
    assert rows(report) == [
        ("chat version 1", 1, "new"),
        ("find version 1", 0, "problem"),
        ("greeting version 1", 1, "new"),
        ("greeting version 2", 2, "new version"),
        ("greeting version 3", 1, "unchanged"),
        ("jinja version 1", 1, "new"),
        ("many version 1", 1, "new"),
        ("many version 2", 2, "new version"),
        ("many version 3", 3, "new version"),
        ("tool.use version 1", 0, "problem"),
    ]
    notes = {file.name: file.note for file in report.files}
    assert "sub-command" in notes["find"]
    assert "tool" in notes["tool.use"]
    assert "its model" in notes["chat"]
    assert "presence_penalty" in notes["chat"]
    greeting = workspace.saved_prompt("greeting@prod")
    assert (greeting.version, greeting.tags, greeting.variables) == (1, ("area=mail", "v=1"), ("name",))
    assert workspace.saved_prompt("greeting@next").version == 2
    assert dict(workspace.saved_prompt("chat").parameters) == {
        "max_new_tokens": 12,
        "temperature": 0.5,
        "top_p": 0.9,
    }
    again = workspace.import_prompts(f"mlflow:{registry}")
    assert {file.outcome for file in again.files} == {"unchanged", "problem"}
    assert len(workspace.prompts()) == 4


def test_they_render_as_mlflow_renders_them(workspace: Workspace, registry: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=registry, registry_uri=registry)
    workspace.import_prompts(f"mlflow:{registry}")
    values: dict[str, Any] = {"name": "Ada", "mood": "kind", "question": "Why?", "xs": [1, 2]}
    for name, version in (("greeting", 1), ("greeting", 2), ("jinja", 1)):
        theirs = client.get_prompt_version(name, version)
        prompt = workspace.saved_prompt(f"{name}@{version}")
        assert render(prompt.template, values).text == theirs.format(**values)
    from jupyter_llmops.prompting.messages import render_messages

    theirs = client.get_prompt_version("chat", 1).format(**values)
    ours = render_messages(workspace.saved_prompt("chat").template, "", values)
    assert [{"role": m.role, "content": m.rendered.text} for m in ours] == theirs


@pytest.mark.parametrize(
    "text",
    [
        "{{ a b }} {{a}}",
        "{{",
        "}}",
        "{%",
        "{# {{ a }} #}",
        "user:\nHi {{ a }}",
        "{{{a}}}",
        "{{ 'x' }}",
        "a\nassistant:\n{{a}}",
    ],
)
def test_what_mlflow_takes_literally_stays_literal(text: str) -> None:
    from mlflow.entities.model_registry import PromptVersion

    assert render(convert(text), {"a": "A"}).text == PromptVersion("p", 1, text).format(a="A")


def test_a_registry_that_is_not_there_is_no_new_one(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no MLflow database"):  # MLflow's own default
        workspace.import_prompts("mlflow:")
    assert list(tmp_path.glob("mlflow.db")) == []
    with pytest.raises(UsageError, match="no MLflow database"):
        workspace.import_prompts(f"mlflow:sqlite:///{tmp_path / 'nothing.db'}")
    assert not (tmp_path / "nothing.db").exists()
    (tmp_path / "text.db").write_text("no database" * 100)
    for uri in (f"sqlite:///{tmp_path / 'text.db'}", "nosuchscheme://x"):
        with pytest.raises(CatalogError) as caught:
            list(read_prompts(uri))
        assert "\n" not in str(caught.value)


def test_without_mlflow_the_extra_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    (tmp_path / "x.db").touch()
    with pytest.raises(MissingDependencyError, match=r"jupyter-llmops\[mlflow\]"):
        workspace.import_prompts(f"mlflow:sqlite:///{tmp_path / 'x.db'}")
