"""%models: add, scan, aliases, words about models, private ones, files to the storage and back."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from catalog_writer import a_run
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import (
    ConflictError,
    InferenceError,
    ModelNotAvailableError,
    SecretError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.settings import user_folder
from model_folders import write_model_folder

if TYPE_CHECKING:
    from magic_shell import Notebook


@pytest.fixture
def tiny(notebook: Notebook, tmp_path: Path) -> Path:
    """Add a model of a few bytes and return its folder."""
    folder = write_model_folder(tmp_path / "models" / "tiny")
    notebook.run(f"%models add tiny {folder} --description 'For tests' --tag chat --license MIT")
    return folder


def names(notebook: Notebook, line: str) -> list[str]:
    return [model.name for model in notebook.run(line)]


def test_add_reads_what_the_files_say(notebook: Notebook, tiny: Path) -> None:
    model = notebook.run("%models show tiny")
    assert (model.family, model.parameters, model.format, model.quantizations) == (
        "llama", 16, "safetensors", ("fp32",),
    )  # fmt: skip
    assert (model.description, model.tags, model.license, model.private) == (
        "For tests",
        ("chat",),
        "MIT",
        False,
    )
    assert [file.path for file in model.files] == ["config.json", "model.safetensors"]
    text = notebook.shown(model)
    assert f"{notebook.workspace.settings.site}: folder:{tiny}" in text
    assert "model.safetensors" in text


def test_an_alias_answers_prompts_and_stands_in_the_record(notebook: Notebook, tiny: Path) -> None:
    said = notebook.run("%models alias prod tiny --why 'first one'")
    assert said == "prod → tiny: the next prompt with -m prod uses it, in every notebook."
    completion = notebook.run("%%prompt -m prod\nHi")
    assert completion.model == "tiny"
    leaf = json.loads(notebook.workspace.journal.path.read_text().splitlines()[-2])
    assert (leaf["model"], leaf["alias"]) == ("tiny", "prod")
    assert leaf["model_digest"] == notebook.run("%models show tiny").digest
    (move,) = notebook.run("%models aliases")
    assert (move.value, move.reason, move.created_by) == ("tiny", "first one", notebook.workspace.user)
    assert "prod — moved here by" in notebook.shown(notebook.run("%models show prod"))


def test_an_alias_may_be_the_default_model(notebook: Notebook, tiny: Path) -> None:
    notebook.run("%models alias cheap tiny")
    notebook.run("%config LLMOps.model = 'cheap'")
    assert notebook.run("%%prompt\nHi").model == "tiny"
    notebook.run("%models alias cheap smollm2-135m-instruct")
    assert notebook.run("%%prompt\nHi").model == "smollm2-135m-instruct"


def test_another_persons_move_counts_for_the_next_prompt(
    notebook: Notebook, tiny: Path, tmp_path: Path
) -> None:
    notebook.run(f"%models add big {write_model_folder(tmp_path / 'big')}")
    notebook.run("%models alias prod tiny")
    assert notebook.run("%%prompt -m prod\nHi").model == "tiny"
    bob = Catalog(notebook.workspace.location, site="x", user="bob")
    bob.models.point("prod", "big", reason="better")
    assert notebook.run("%%prompt -m prod\nHi").model == "big"
    history = notebook.run("%models history prod")
    assert [(move.value, move.created_by) for move in history] == [
        ("tiny", notebook.workspace.user),
        ("big", "bob"),
    ]
    assert "better" in notebook.shown(history, "text/html")
    error = notebook.fail("%models alias prod smollm2-135m-instruct --was tiny")
    assert isinstance(error, ConflictError)
    assert "moved to big by bob" in str(error)
    notebook.run("%models alias prod tiny --was big")
    notebook.run("%models alias prod --remove")
    assert isinstance(notebook.fail("%%prompt -m prod\nHi"), UnknownNameError)


WRONG = (
    ("%models alias tiny tiny", "there is a model named 'tiny'"),
    ("%models alias scan tiny", "sub-command"),
    ("%models alias smollm2-135m-instruct tiny", "default model"),
    ("%models alias prod", "%models alias prod NAME"),
    ("%models alias prod tiiny", "Did you mean tiny"),
    ("%models alias prod --remove", "no model alias named 'prod'"),
    ("%models history nobody", "no model or alias named"),
    ("%models add scan /x", "sub-command"),
    ("%models add a@b /x", "can't hold"),
    ("%models add TINY {folder}", "only by case"),
    ("%models add x https://host/v1", "https://host/v1#SERVED-NAME"),
    ("%models describe tiny", "description is missing"),
    ("%models pusch tiny", "Valid are"),
    ("%models push", "name is missing"),
    ("%models publish tiny", "not a private one"),
)


def test_what_is_typed_wrongly_is_said(notebook: Notebook, tiny: Path) -> None:
    before = notebook.run("%models")[:]
    for line, says in WRONG:
        error = notebook.fail(line.replace("{folder}", str(tiny)))
        assert isinstance(error, UsageError), line
        assert says in str(error)
    assert notebook.run("%models")[:] == before


def test_a_secret_is_refused_and_kept_nowhere(notebook: Notebook) -> None:
    secret = "hunter2-Zq8LmX4vTr91"
    notebook.fail(f"%models add gpt https://host/v1#gpt --credential {secret} --nonsense")
    notebook.shell.user_ns["key"] = secret
    notebook.fail("%models add gpt https://host/v1#gpt --credential $key")
    error = notebook.fail(f"%models add gpt https://host/v1#gpt --credential {secret}")
    assert isinstance(error, UsageError)
    assert secret not in str(error)
    assert "env:NAME" in str(error)
    assert isinstance(notebook.fail(f"%models add gpt https://ada:{secret}@host/v1#gpt"), SecretError)
    assert isinstance(
        notebook.fail("%models describe smollm2-135m-instruct token ghp_" + "a1B2" * 9), SecretError
    )
    notebook.workspace.journal.flush()
    kept = {path: path.read_bytes() for path in user_folder().rglob("*") if path.is_file()}
    assert any(b"[redacted:" in content for content in kept.values())
    assert [path for path, content in kept.items() if secret.encode() in content] == []


def test_an_endpoint_is_a_row_without_files(notebook: Notebook) -> None:
    added = notebook.run("%models add gpt https://host/v1#gpt-oss --credential env:TEAM_KEY")
    assert (added.format, added.source, added.credential) == (
        "endpoint", "endpoint:https://host/v1#gpt-oss", "env:TEAM_KEY",
    )  # fmt: skip
    assert "env:TEAM_KEY" in notebook.shown(added)
    for line in ("%models push gpt", "%models pull gpt"):
        assert "no files here to move" in str(notebook.fail(line))


def test_scan_registers_what_is_new_and_says_what_can_not_be_read(notebook: Notebook, tiny: Path) -> None:
    place = tiny.parent
    write_model_folder(place / "Other Model")
    shutil.copytree(tiny, place / "copy-of-tiny")
    write_model_folder(place / "broken")
    (place / "broken" / "model.safetensors").write_bytes(b"\xff" * 30)
    seen = notebook.run(f"%models scan '{place}' --dry-run")
    assert {found.outcome for found in seen.found} == {"found"}
    assert "other-model" not in names(notebook, "%models")
    scan = notebook.run(f"%models scan '{place}'")
    assert sorted((found.model.name, found.outcome) for found in scan.found) == [
        ("other-model", "new"), ("tiny", "known"), ("tiny", "place added"),
    ]  # fmt: skip
    assert len(scan.problems) == 1
    assert "broken" in scan.problems[0]
    assert "other-model" in notebook.shown(scan)
    assert "broken" in notebook.shown(scan, "text/html")
    assert list(scan.df["outcome"]) == [found.outcome for found in scan.found]
    assert len(notebook.run("%models show tiny").places) == 2
    again = notebook.run(f"%models scan '{place}'")
    assert {found.outcome for found in again.found} == {"known"}


def test_a_found_name_that_is_taken_or_a_command_gets_another(
    notebook: Notebook, tiny: Path, tmp_path: Path
) -> None:
    notebook.run("%models alias prod tiny")
    for name in ("tiny", "scan", "prod"):
        write_model_folder(tmp_path / "more" / name)
    scan = notebook.run(f"%models scan {tmp_path / 'more'}")
    assert scan.problems == ()
    assert sorted(found.model.name for found in scan.found) == ["prod-2", "scan-model", "tiny-2"]


def test_find_looks_into_names_words_and_tags(
    notebook: Notebook, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_encoder(*_: object, **__: object) -> None:
        raise InferenceError("There is no encoder here.")

    monkeypatch.setattr(notebook.workspace, "encoder", no_encoder)
    assert names(notebook, "%models find TIN") == ["tiny"]
    assert names(notebook, "%models find for tests") == ["tiny"]
    notebook.run("%models describe tiny Sorts reviews --tag sentiment")
    assert names(notebook, "%models find sentiment") == ["tiny"]
    assert names(notebook, "%models find folder:") == ["tiny"]
    assert names(notebook, "%models find reviews sorting") == ["tiny"]
    assert names(notebook, "%models find nothing-like-it") == []


def test_retired_models_are_hidden_but_usable(notebook: Notebook, tiny: Path) -> None:
    said = notebook.run("%models retire tiny --why 'too small'")
    assert "%models restore" in said
    assert "tiny" not in names(notebook, "%models")
    assert "tiny (retired)" in notebook.shown(notebook.run("%models --all"))
    assert notebook.run("%%prompt -m tiny\nHi").model == "tiny"
    notebook.run("%models restore tiny")
    assert "tiny" in names(notebook, "%models")


def test_a_default_model_can_be_described_and_retired(notebook: Notebook) -> None:
    notebook.run("%models describe smollm2-135m-instruct Ours")
    assert notebook.run("%models show smollm2-135m-instruct").description == "Ours"
    notebook.run("%models retire all-minilm-l6-v2")
    assert names(notebook, "%models") == ["smollm2-135m-instruct"]


def test_private_models_are_yours_until_they_are_published(notebook: Notebook, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "mine")
    assert notebook.run(f"%models add mine {folder} --private --description 'My own'").private
    team = notebook.workspace.catalog.models
    assert team.list() == []
    assert "mine (yours)" in notebook.shown(notebook.run("%models"))
    notebook.run("%models alias my-best mine")
    assert notebook.run("%%prompt -m my-best\nHi").model == "mine"
    assert team.aliases() == []
    assert [found.outcome for found in notebook.run(f"%models scan {folder}").found] == ["known"]
    assert team.list() == [], "a scan shared what is private"
    error = notebook.fail("%models push mine")
    assert "%models publish mine" in str(error)
    published = notebook.run("%models publish mine")
    assert (published.private, published.description) == (False, "My own")
    assert [model.name for model in team.list()] == ["mine"]
    assert [(model.name, model.private) for model in notebook.run("%models find mine")] == [("mine", False)]


def test_your_own_alias_goes_on_when_its_model_is_published(notebook: Notebook, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "mine")
    notebook.run(f"%models add mine {folder} --private")
    assert notebook.run("%models alias best mine") == (
        "best → mine, both yours alone: your next prompt with -m best uses it."
    )
    notebook.run("%models publish mine")
    assert notebook.run("%%prompt -m best\nHi").model == "mine"
    assert "best (yours)" in notebook.shown(notebook.run("%models alias"))
    # The team's alias of that name is another one, and says so.
    said = notebook.run("%models alias best smollm2-135m-instruct")
    assert "in every notebook but yours: your own alias best → mine comes first" in said
    assert notebook.run("%%prompt -m best\nHi").model == "mine"
    assert [(m.name, m.aliases) for m in notebook.run("%models") if m.aliases] == [("mine", ("best",))]
    assert "Your own alias best is gone" in notebook.run("%models alias best --remove")
    assert notebook.run("%%prompt -m best\nHi").model == "smollm2-135m-instruct"
    assert "(yours)" not in notebook.shown(notebook.run("%models alias"))


def test_your_own_endpoint_comes_before_the_teams_of_that_name(notebook: Notebook) -> None:
    notebook.run("%models add gpt https://team.invalid/v1#gpt")
    notebook.run("%models add gpt https://own.invalid/v1#gpt --private")
    found = [(m.name, m.private, m.source) for m in notebook.run("%models") if m.name == "gpt"]
    assert found == [
        ("gpt", False, "endpoint:https://team.invalid/v1#gpt"),
        ("gpt", True, "endpoint:https://own.invalid/v1#gpt"),
    ]
    assert notebook.run("%models show gpt").private
    assert [m.private for m in notebook.run("%models find gpt")] == [True]
    assert "gpt (yours) is retired" in notebook.run("%models retire gpt")
    notebook.run("%models restore gpt")
    history = notebook.shown(notebook.run("%models history gpt"))
    assert "restored" in history
    assert "taken away" not in history


def test_lines_that_are_typed_wrongly_say_what_is_right(notebook: Notebook, tmp_path: Path) -> None:
    for line, part in [
        ("%models find", "%models find WORDS"),
        (f"%models add tiny {tmp_path}/nothing", "no folder or file"),
        ("%models alias find smollm2-135m-instruct", "'find-alias'"),
        ("%collections find", "%collections find WORDS"),
    ]:
        error = notebook.fail(line)
        assert isinstance(error, UsageError)
        assert part in str(error)
    scan = notebook.run("%models scan packages --dry-run")
    assert scan.summary.endswith("found, none registered.")


def test_tab_knows_options_everywhere_and_folders(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_llmops.magics.completer import candidates

    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs" / "inner").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    notebook.run("%%prompt -s page\nHi")

    def offered(magic: str, line: str) -> list[str]:
        return list(candidates(notebook.workspace, notebook.shell, magic, line))

    assert "--why" in offered("models", "%models retire --")
    assert "--why" in offered("collections", "%collections retire x --w")
    assert "docs/" in offered("prompts", "%prompts import ")
    assert ".hidden/" not in offered("prompts", "%prompts export ")
    assert "docs/inner/" in offered("models", "%models scan docs/i")
    assert {"docs/", "texts"}.isdisjoint(offered("collections", "%collections show "))
    notebook.shell.user_ns["texts"] = ["a"]
    data = offered("collections", "%collections add x --from ")
    assert {"docs/", "texts"} <= set(data)
    assert {"In", "Out", "exit", "quit"}.isdisjoint(data)
    assert offered("prompt", "%%prompt -s ") == ["page"]


def test_pushed_files_are_pulled_where_they_are_not(notebook: Notebook, tiny: Path) -> None:
    pushed = notebook.run("%models push tiny")
    assert [place.site for place in pushed.places][-1] == "storage"
    assert notebook.run("%models pull tiny").source == f"folder:{tiny}", "it was here already"
    shutil.rmtree(tiny)
    error = notebook.fail("%%prompt -m tiny\nHi")
    assert isinstance(error, ModelNotAvailableError)
    assert "%models pull tiny" in str(error)
    pulled = notebook.run("%models pull tiny")
    folder = Path(pulled.source.removeprefix("folder:"))
    assert folder.parent == user_folder() / "models" / "pulled"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert notebook.run("%%prompt -m tiny\nHi").model == "tiny"
    places = notebook.run("%models show tiny").places
    assert pulled.source in [place.source for place in places]


def test_what_is_not_in_the_storage_says_who_has_it(notebook: Notebook, tiny: Path) -> None:
    shutil.rmtree(tiny)
    error = notebook.fail("%models pull tiny")
    assert isinstance(error, ModelNotAvailableError)
    assert "%models push tiny" in str(error)


def test_a_pickle_is_not_pushed(notebook: Notebook, tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression

    path = tmp_path / "sorter.joblib"
    joblib.dump(LogisticRegression(), path)
    added = notebook.run(f"%models add sorter {path}")
    assert (added.kind, added.format) == ("classic", "joblib")
    assert "can hold code" in str(notebook.fail("%models push sorter"))
    assert "storage" not in [place.site for place in notebook.run("%models show sorter").places]
    real = TransformersEngine(notebook.workspace.models_folder, offline=True)
    with pytest.raises(UsageError, match="can't answer prompts"):
        real.identify(notebook.workspace.model("sorter"), "auto")


def test_measured_speeds_are_shown(notebook: Notebook, tiny: Path) -> None:
    workspace = notebook.workspace
    digest = notebook.run("%models show tiny").digest
    leaf = {"computed_microseconds": 4_000_000, "quantization": "nf4", "model_digest": digest}
    values = {"kind": "prompt", "source": "model", "model": "tiny", "tokens_out": 100, "leaf": leaf}
    here, there = workspace.settings.site, "gpu-<b>1"
    runs = [a_run("s", seq, host=host, **values) for seq, host in enumerate((here, here, there))]
    workspace.catalog.runs.append(runs)
    (listed,) = notebook.run("%models find tiny")
    assert [(speed.host, speed.tokens_per_second, speed.runs) for speed in listed.speeds] == [(here, 25, 2)]
    assert "25" in notebook.shown(notebook.run("%models find tiny"))
    card = notebook.run("%models show tiny")
    assert {speed.host for speed in card.speeds} == {here, there}
    assert "25.0 tok/s (1 run)" in notebook.shown(card)
    shown = notebook.shown(card, "text/html")
    assert "<b>1" not in shown
    assert "width:100.0%" in shown


def test_what_strangers_wrote_is_escaped(notebook: Notebook, tiny: Path) -> None:
    evil = "<script>alert(1)</script>"
    bob = Catalog(notebook.workspace.location, site=evil, user=evil)
    bob.models.describe("tiny", evil)
    bob.models.point("prod", "tiny", reason=evil)
    bob.models.add_place("tiny", f"folder:{evil}")
    for line in (
        "%models",
        "%models show tiny",
        "%models aliases",
        "%models history tiny",
        "%models history prod",
    ):
        assert "<script>" not in notebook.shown(notebook.run(line), "text/html")


TAB = (
    ("%models hi", "history"),
    ("%models show ti", "tiny"),
    ("%models show pr", "prod"),
    ("%models alias pr", "prod"),
    ("%models alias prod ti", "tiny"),
    ("%models push ti", "tiny"),
    ("%models scan pa", "packages"),
    ("%models restore sm", "small"),
    ("%%prompt -m pr", "prod"),
    ("%models --pri", "--private"),
)


def test_tab_knows_names_and_aliases(notebook: Notebook, tiny: Path, tmp_path: Path) -> None:
    notebook.run("%models alias prod tiny")
    notebook.run(f"%models add small {write_model_folder(tmp_path / 'small')}")
    notebook.run("%models retire small")
    notebook.shell.Completer.use_jedi = False
    for line, expected in TAB:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            _, matches = notebook.shell.complete(line, line, len(line))
        assert expected in matches, line
