"""The quickstart in a real JupyterLab with the real model, as a person sees it; its pictures are the README's.

Most of its time the model reads the cascade's rows: a test has it read a fifth of them. For the README's
pictures of the cascade, which tell of all rows, set LLMOPS_README_PICTURES=1. All rows are also read, and what
comes of them looked at, in tests/notebooks/test_quickstart.py.
"""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from model_fixtures import models_folder
from ui.conftest import OpenWorkbench, StartJupyter

__all__ = ["models_folder"]

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

PATH = "quickstart.ipynb"
ALL_RAN = """path => {
  const panel = [...window.jupyterapp.shell.widgets('main')].find(it => it.context?.path === path);
  const cells = panel.content.widgets.filter(it => it.model.type === 'code');
  const failed = cells.some(it => it.model.outputs.toJSON().some(output => output.output_type === 'error'));
  return failed || cells[cells.length - 1].model.executionCount !== null;
}"""
ERRORS = """path => {
  const panel = [...window.jupyterapp.shell.widgets('main')].find(it => it.context?.path === path);
  return panel.content.widgets.filter(it => it.model.type === 'code')
    .flatMap(it => it.model.outputs.toJSON()).filter(it => it.output_type === 'error').map(it => it.evalue);
}"""
# The notebook is windowed: a cell is in the page only when it is scrolled to.
SHOW_CELL = """async ([path, beginning]) => {
  const panel = [...window.jupyterapp.shell.widgets('main')].find(it => it.context?.path === path);
  const notebook = panel.content;
  const index = notebook.widgets.findIndex(it => it.model.sharedModel.getSource().startsWith(beginning));
  notebook.activeCellIndex = index;
  await notebook.scrollToItem(index, 'start');
}"""


def test_the_quickstart_in_light_and_dark(
    start_jupyter: StartJupyter,
    workbench: OpenWorkbench,
    repository: Path,
    models_folder: Path,
    screenshots: Path,
) -> None:
    jupyter = start_jupyter("real")
    examples = repository / "example_notebooks"
    shutil.copy(examples / PATH, jupyter.work / PATH)
    shutil.copytree(examples / "data", jupyter.work / "data")
    if os.environ.get("LLMOPS_README_PICTURES") != "1":
        keep_every_fifth_row(jupyter.work / "data" / "feedback.csv")
    (jupyter.folder / "llmops" / "models").symlink_to(models_folder)
    lab = workbench(jupyter)
    lab.open()
    lab.set_width(320)
    lab.open_notebook(PATH)
    lab.page.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
    lab.page.wait_for_function(ALL_RAN, arg=PATH, timeout=800_000)
    assert lab.page.evaluate(ERRORS, PATH) == []
    lab.wait_for_kernel(PATH)

    expect(lab.section("prompts")).to_contain_text("explain")
    expect(lab.section("runs")).to_contain_text("reproduction")
    for theme, name in (("JupyterLab Light", "light"), ("JupyterLab Dark", "dark")):
        lab.use_theme(theme)
        for cell, part in (
            ("%%prompt -n 60 -s", "prompt"),
            ("texts, labels", "cascade"),
            ("%reproduce", "proof"),
        ):
            lab.page.evaluate(SHOW_CELL, [PATH, cell])
            lab.page.wait_for_timeout(300)  # for the picture only: nothing is asserted on it
            lab.screenshot(screenshots / f"quickstart-{part}-{name}.png")


def keep_every_fifth_row(table: Path) -> None:
    """Shorten a table. Not every second or fourth row: labels take turns, and one of them would be left."""
    with table.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows[::5]])
