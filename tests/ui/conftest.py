"""A real Jupyter and a real Chromium for every test of the sidebar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ui.jupyter import LABEXTENSION, Jupyter, ServerExtension
from ui.workbench import CHROMIUM, CHROMIUM_FLAGS, Workbench

# Part of the address of every script of ours.
OUR_SCRIPTS = "/jupyter-llmops/static/"

# Long: what is waited for comes at once on a quiet machine; tests share theirs.
SECONDS_TO_WAIT = 45

expect.set_options(timeout=SECONDS_TO_WAIT * 1000)

StartJupyter = Callable[..., Jupyter]
OpenWorkbench = Callable[[Jupyter], Workbench]


# Without a browser only test_browser.py is left, so that one line says why.
collect_ignore = [
    path.name
    for path in Path(__file__).parent.glob("test_*.py")
    if CHROMIUM is None and path.name != "test_browser.py"
]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the program, or skip; with LLMOPS_REQUIRE_BROWSER=1 its absence is a failure."""
    if CHROMIUM:
        return CHROMIUM
    if os.environ.get("LLMOPS_REQUIRE_BROWSER") == "1":
        pytest.fail("No Chromium on PATH, and LLMOPS_REQUIRE_BROWSER=1: install Debian's chromium.")
    pytest.skip("No Chromium on PATH: install Debian's chromium to run the browser tests.")


@pytest.fixture(scope="session")
def built_sidebar(chromium: str) -> Path:
    """Return the built labextension."""
    if not (LABEXTENSION / "package.json").exists():
        pytest.fail("The sidebar is not built. Type: npm ci && npm run build:prod, in labextension/.")
    return LABEXTENSION


# A module, not the session: while Playwright runs, its loop counts as running in this thread, and the
# asynchronous tests of other folders could not start theirs.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def start_jupyter(
    built_sidebar: Path, chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartJupyter]:
    """Return a function that starts a Jupyter; all are stopped at the end of the module."""
    with ExitStack() as running:

        def start(
            extension: ServerExtension, application: Literal["jupyterlab", "notebook"] = "jupyterlab"
        ) -> Jupyter:
            folder = tmp_path_factory.mktemp("jupyter")
            return running.enter_context(Jupyter(folder, extension, application))

        yield start


@pytest.fixture
def workbench(browser: Browser) -> Iterator[OpenWorkbench]:
    """Return a function that opens a fresh page on a Jupyter; an error in our script fails the test."""
    with fresh_pages(browser) as open_page:
        yield open_page


@contextmanager
def fresh_pages(browser: Browser) -> Iterator[OpenWorkbench]:
    """Open pages, close them at the end, and fail when a script of ours raised an error."""
    complaints: list[str] = []
    with ExitStack() as opened:

        def open_page(jupyter: Jupyter) -> Workbench:
            context = browser.new_context(viewport={"width": 1400, "height": 1000}, locale="en-GB")
            opened.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(SECONDS_TO_WAIT * 1000)
            page.on("pageerror", lambda error: complaints.append(error.stack or str(error)))
            return Workbench(page, jupyter)

        yield open_page
    # Notebook 7 has an error of its own while it starts, with or without this sidebar.
    assert [complaint for complaint in complaints if OUR_SCRIPTS in complaint] == []


@pytest.fixture(scope="session")
def screenshots(repository: Path) -> Path:
    """Return the folder that the screenshots are written to."""
    return repository / "build" / "screenshots"
