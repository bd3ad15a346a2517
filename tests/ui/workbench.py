"""What a person does in JupyterLab, in a real browser."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Locator, Page, expect

from ui.jupyter import Jupyter, write_json

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SIDEBAR = "jupyter-llmops-sidebar"
SECONDS = 1000.0
KERNEL_TIMEOUT = 90 * SECONDS

# The toolbar shows "idle" before the kernel is connected, and JupyterLab drops a run asked for then.
KERNEL_READY = """path => {
  const shell = window.jupyterapp.shell;
  const panel = [...shell.widgets('main')].find(it => it.context?.path === path);
  const kernel = panel?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""

# `poll.refresh()` drops what is asked for during a reading.
UNTIL_READ = """async again => {
  const {poll} = window.jupyterapp.pluginRegistry._plugins.get('jupyter-llmops:live').service;
  const rest = async () => {
    while (['started', 'refreshed'].includes(poll.state.phase)) await poll.tick.catch(() => null);
  };
  await rest();
  if (again) {
    await poll.refresh();
    await rest();
  }
}"""

RUN = """async ([path, source]) => {
  const app = window.jupyterapp;
  const panel = [...app.shell.widgets('main')].find(it => it.context?.path === path);
  app.shell.activateById(panel.id);
  const notebook = panel.content;
  notebook.activeCellIndex = notebook.widgets.length - 1;
  notebook.activeCell.model.sharedModel.setSource(source);
  await app.commands.execute('notebook:run-cell-and-insert-below');
  const cell = notebook.widgets[notebook.widgets.length - 2];
  return cell.model.outputs.toJSON();
}"""

EMPTY_NOTEBOOK: dict[str, Any] = {
    "cells": [{"cell_type": "code", "source": [], "metadata": {}, "outputs": [], "execution_count": None}],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 4,
}


class Workbench:
    """A page with JupyterLab and its sidebar.

    Parameters
    ----------
    page : Page
        Fresh.
    jupyter : Jupyter
        Running.
    """

    def __init__(self, page: Page, jupyter: Jupyter) -> None:
        self.page = page
        self.jupyter = jupyter
        self.workspace = ""
        self.sidebar = page.locator(f"#{SIDEBAR}")
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(error.stack or str(error)))

    def close(self) -> None:
        self.page.context.close()

    def open(self, path: str = "") -> None:
        """Load the application, wait until it is restored, and show the sidebar.

        JupyterLab opens in a workspace of its own: the layout of one test is not the next one's.
        """
        self.workspace = secrets.token_hex(4)
        path = path or f"lab/workspaces/{self.workspace}"
        self.page.goto(f"{self.jupyter.url}{path}?{urlencode({'token': self.jupyter.token})}")
        self.wait_until_restored()
        self.run_command("jupyter-llmops:open")
        expect(self.sidebar).to_be_visible()

    def reload(self) -> None:
        """Reload the page when the layout is saved, and wait until it is back."""
        self.wait_until_layout_is_saved()
        self.page.reload()
        self.wait_until_restored()

    def wait_until_restored(self) -> None:
        self.page.wait_for_function("() => window.jupyterapp !== undefined", timeout=60 * SECONDS)
        self.page.evaluate("() => window.jupyterapp.restored.then(() => true)")

    def wait_until_layout_is_saved(self) -> None:
        """Wait until the server would bring the sidebar back."""
        deadline = time.monotonic() + 60
        while self._saved_layout().get("right", {}).get("current") != SIDEBAR:
            assert time.monotonic() < deadline, "JupyterLab did not save its layout."
            self.page.wait_for_timeout(100)

    def _saved_layout(self) -> dict[str, Any]:
        workspace = json.loads(self.jupyter.ask(f"lab/api/workspaces/{self.workspace}"))
        return workspace["data"].get("layout-restorer:data", {})

    def run_command(self, command: str, **arguments: Any) -> None:
        self.page.evaluate(
            "([command, args]) => window.jupyterapp.commands.execute(command, args).then(() => true)",
            [command, arguments],
        )

    def section(self, name: str) -> Locator:
        return self.sidebar.locator(f"[data-section={name}]")

    def rows(self, section: str) -> Locator:
        return self.section(section).locator("[data-row]")

    def count(self, section: str) -> Locator:
        return self.section(section).locator(".jp-LLMOps-count")

    def set_width(self, pixels: int) -> None:
        """Make the sidebar so wide, whatever the browser's window is."""
        self.page.evaluate(
            """pixels => {
              const app = window.jupyterapp;
              const split = app.shell._hsplitPanel;
              const total = split.node.getBoundingClientRect().width;
              const left = app.shell._leftHandler.stackedPanel.isVisible ? 200 : 0;
              split.setRelativeSizes([left, total - left - pixels, pixels]);
            }""",
            pixels,
        )
        self.page.wait_for_function(
            """pixels => Math.abs(document.querySelector('#jupyter-llmops-sidebar')
                 .getBoundingClientRect().width - pixels) <= 4""",
            arg=pixels,
        )

    def read_everything(self) -> None:
        """Have the sidebar ask the server for all that it shows, and wait until it was answered."""
        self.page.evaluate(UNTIL_READ, True)

    def wait_until_read(self) -> None:
        """Wait for the end of a reading of everything, if there is one: a button that asks for it works then."""
        self.page.evaluate(UNTIL_READ, False)

    def put_back(self) -> None:
        """Show the sidebar as it is at first: filtered by nothing, its sections open, its rows closed."""
        self.sidebar.get_by_role("searchbox", name="Filter").fill("")
        self.sidebar.evaluate(
            """node => {
              for (const button of node.querySelectorAll('h3 button[aria-expanded=false]'))
                button.click();
            }"""
        )
        self.sidebar.evaluate(
            """node => [...node.querySelectorAll('.jp-LLMOps-rowButton, .jp-LLMOps-more')]
                 .filter(it => it.matches('[aria-expanded=true], [aria-pressed=true]')
                   || /fewer/.test(it.textContent))
                 .forEach(button => button.click())"""
        )

    def use_theme(self, name: str) -> None:
        self.run_command("apputils:change-theme", theme=name)
        self.page.wait_for_function(
            "name => document.body.dataset.jpThemeName === name", arg=name, timeout=30 * SECONDS
        )

    def open_notebook(self, path: str) -> None:
        """Create an empty notebook where there is none, open it, and wait for its kernel."""
        self.create_notebook(path)
        self.run_command("docmanager:open", path=path, factory="Notebook", kernel={"name": "python3"})
        self.wait_for_kernel(path)

    def create_notebook(self, path: str) -> None:
        file = self.jupyter.work / path
        if not file.exists():
            write_json(file, EMPTY_NOTEBOOK)

    def wait_for_kernel(self, path: str) -> None:
        self.page.wait_for_function(KERNEL_READY, arg=path, timeout=KERNEL_TIMEOUT)

    def run_cell(self, path: str, source: str) -> str:
        """Run `source` in the last cell of an open notebook; return its outputs as text."""
        self.wait_for_kernel(path)
        outputs = self.page.evaluate(RUN, [path, source])
        return "\n".join(output_text(output) for output in outputs)

    def screenshot(self, file: Path) -> None:
        """Write the whole window and, beside it, the sidebar alone."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file, animations="disabled")
        self.sidebar.screenshot(path=file.with_stem(f"{file.stem}-sidebar"), animations="disabled")


def output_text(output: dict[str, Any]) -> str:
    """Return one output of a cell as plain text; an error is its name and its value."""
    if output["output_type"] == "stream":
        return str(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return str(output["data"].get("text/plain", ""))
