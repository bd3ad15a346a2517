"""%llmops, %gpus, %models, %cache and Tab."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.gpu import Device
from jupyter_llmops.workspace.inventory import parse_size
from jupyter_llmops.workspace.parts import user_name
from model_folders import write_model_folder

if TYPE_CHECKING:
    from magic_shell import Notebook


def test_the_status_card_tells_where_one_is(notebook: Notebook) -> None:
    notebook.run("%%prompt\nHi")
    state = notebook.run("%llmops")
    assert state.catalog == str(notebook.workspace.folder)
    assert state.loaded_models == ("smollm2-135m-instruct",)
    assert "smollm2-135m-instruct" in notebook.shown(state, "text/html")


def test_loading_twice_changes_nothing(notebook: Notebook) -> None:
    notebook.run("%load_ext jupyter_llmops")
    notebook.run("%reload_ext jupyter_llmops")
    notebook.workspace = notebook.shell._jupyter_llmops
    notebook.run("x = 1")
    counts = [run.execution_count for run in notebook.run("%runs --kind cell")]
    assert len(counts) == len(set(counts)), "a cell was stamped twice"


def test_the_doctor_looks_at_every_part(notebook: Notebook) -> None:
    checkup = notebook.run("%llmops doctor")
    parts = {check.part: check for check in checkup.checks}
    assert set(parts) == {
        "catalog",
        "private catalog",
        "model",
        "bitsandbytes",
        "GPU",
        "cache",
        "team key",
        "audit",
        "coverage",
        "disk",
        "server",
        "labextension",
    }
    assert parts["catalog"].status == "ok"
    assert parts["audit"].status == "ok"


def test_the_doctor_says_which_catalog_is_damaged(notebook: Notebook) -> None:
    notebook.run("%prompts")
    folder = notebook.workspace.folder
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("not a folder")
    notebook.workspace.__dict__.pop("catalog", None)
    checkup = notebook.run("%llmops doctor")
    catalog = next(check for check in checkup.checks if check.part == "catalog")
    assert catalog.status == "fail"
    assert str(folder) in catalog.message + catalog.fix
    assert folder.read_text() == "not a folder", "a damaged catalog was overwritten"


def test_gpus_end_with_the_cpu(notebook: Notebook) -> None:
    inventory = notebook.run("%gpus")
    assert [device.kind for device in inventory.devices][-1] == "cpu"
    assert inventory.devices[-1].memory_total_bytes
    assert inventory.devices[-1].price_per_hour is None
    assert "$" not in notebook.shown(inventory)


def test_gpus_are_filtered_and_sorted(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    import jupyter_llmops.gpus as gpus

    real = gpus.read_inventory

    def two_gpus(site: str, prices: dict[str, float], currency: str) -> object:
        small = Device(
            "gpu", "small", index=0, memory_total_bytes=2 * 10**9, memory_free_bytes=10**9, price_per_hour=1
        )
        large = Device("gpu", "large", index=1, memory_total_bytes=90 * 10**9, memory_free_bytes=80 * 10**9)
        inventory = real(site, prices, currency)
        return replace(inventory, devices=(small, large, inventory.devices[-1]))

    monkeypatch.setattr(gpus, "read_inventory", two_gpus)

    def names(line: str) -> list[str]:
        return [device.name for device in notebook.run(line).devices[:-1]]

    assert names("%gpus") == ["small", "large"]
    assert names("%gpus --sort free") == ["large", "small"]
    assert names("%gpus --sort price") == ["small", "large"]
    assert names("%gpus --free 20GB") == ["large"]


def test_sizes_count_in_the_unit_that_is_typed() -> None:
    assert (parse_size("20GB"), parse_size("1 KiB"), parse_size("0.5g"), parse_size("7")) == (
        20 * 10**9,
        1024,
        5 * 10**8,
        7,
    )


def test_models_lists_the_defaults_and_adds_a_folder(notebook: Notebook, tmp_path: Path) -> None:
    assert "smollm2-135m-instruct" in [model.name for model in notebook.run("%models")]
    folder = write_model_folder(tmp_path / "tiny")
    added = notebook.run(f"%models add tiny {folder}")
    assert added.digest.startswith("sha256:")
    assert "tiny" in [model.name for model in notebook.run("%models find tiny")]
    assert "sha256:" in notebook.shown(notebook.run("%models show tiny"))


def test_a_model_is_loaded_and_unloaded(notebook: Notebook) -> None:
    assert "nf4" in notebook.run("%models load")
    assert notebook.run("%models unload") == "Unloaded smollm2-135m-instruct."
    assert notebook.run("%models unload") == "Nothing was loaded."


def test_cache_counts_explains_and_clears(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    notebook.run("%%prompt\nHi there")
    notebook.run("%%prompt\nHi there")
    stats = notebook.run("%cache")
    assert (stats.hits, stats.misses, stats.entries) == (1, 1, 1)
    capsys.readouterr()
    notebook.run("%cache why")
    assert "hit" in capsys.readouterr().out.lower()
    notebook.run("%%prompt -n 1\nHi there")
    notebook.run("%cache why")
    assert "max_new_tokens" in capsys.readouterr().out
    notebook.run("%cache clear --yes")
    assert notebook.run("%cache").entries == 0


def test_cache_off_asks_the_model(notebook: Notebook) -> None:
    notebook.run("%%prompt\nHi")
    notebook.run("%cache off")
    assert notebook.run("%%prompt\nHi").source == "model"
    notebook.run("%cache on")
    assert notebook.run("%%prompt\nHi").source == "cache"


def test_settings_are_reached_by_config(notebook: Notebook) -> None:
    notebook.run("%config LLMOps.max_new_tokens = 2")
    assert notebook.run("%%prompt\none two three").text == "one two"


def test_autoload_says_what_it_does_and_undoes_it(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    startup = Path(notebook.shell.profile_dir.startup_dir) / "50-jupyter-llmops.py"

    def said(line: str) -> str:
        capsys.readouterr()
        notebook.run(line)
        return capsys.readouterr().out

    assert said("%llmops autoload") == "Autoload is off in this profile.\n"
    assert "autoload on" in notebook.shown(notebook.run("%llmops"))
    on = said("%llmops autoload on")
    assert str(startup) in on
    assert "%llmops autoload off" in on
    first = startup.read_text()
    said("%llmops autoload on")
    assert startup.read_text() == first
    assert "on in profile default since 20" in said("%llmops autoload")
    assert "on in profile default since 20" in notebook.shown(notebook.run("%llmops"))
    coverage = {check.part: check for check in notebook.run("%llmops doctor").checks}["coverage"]
    assert (coverage.status, "profile default" in coverage.message) == ("ok", True)
    assert str(startup) in said("%llmops autoload off")
    assert not startup.exists()
    assert "was not on" in said("%llmops autoload off")
    startup.write_text("mine = 1")
    for line in ("%llmops autoload on", "%llmops autoload off"):
        assert isinstance(notebook.fail(line), UsageError)
    assert startup.read_text() == "mine = 1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%prompts s", "show"),
        ("%models l", "load"),
        ("%cache w", "why"),
        ("%%prompt --dry", "--dry-run"),
        ("%%prompt -m smol", "smollm2-135m-instruct"),
        ("%prompt gree", "greeting"),
        ("%prompts show gree", "greeting"),
        ("%audit v", "verify"),
    ],
)
def test_tab_completes(notebook: Notebook, line: str, expected: str) -> None:
    notebook.run("%%prompt -s greeting\nHi")
    notebook.shell.Completer.use_jedi = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        _, matches = notebook.shell.complete(line, line, len(line))
    assert expected in matches


@pytest.mark.parametrize(
    "magic",
    ["prompt", "prompts", "models", "gpus", "cache", "cascade", "runs", "reproduce", "audit", "llmops"],
)
def test_a_question_mark_explains_the_magic(notebook: Notebook, magic: str) -> None:
    method = notebook.shell.find_line_magic(magic)
    assert method is not None
    text = method.__doc__ or ""
    assert f"%{magic}" in text
    assert len(text.splitlines()) > 5


def test_settings_count_also_after_the_first_prompt(notebook: Notebook) -> None:
    notebook.run("%%prompt\nHi")
    notebook.run("%config LLMOps.cache = False")
    assert notebook.run("%%prompt\nHi").source == "model"
    notebook.run("%config LLMOps.cache = True")
    assert notebook.run("%%prompt\nHi").source == "cache"


def test_a_default_models_name_is_not_taken(notebook: Notebook, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "tiny")
    error = notebook.fail(f"%models add smollm2-135m-instruct {folder}")
    assert isinstance(error, UsageError)
    assert "default model" in str(error)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass
    import os

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert user_name() == f"uid-{os.getuid()}"


def test_a_setting_that_comes_too_late_says_so(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    before = notebook.workspace.folder
    notebook.run("%config LLMOps.catalog = '/elsewhere'")
    assert "restart the kernel" in capsys.readouterr().out
    assert notebook.workspace.folder == before
