"""A real Jupyter and a real Chromium for every test of the sidebar."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ui.jupyter import LABEXTENSION, Jupyter, ServerExtension
from ui.workbench import CHROMIUM, CHROMIUM_FLAGS, Workbench

# Part of the address of every script of ours.
OUR_SCRIPTS = "/jupyter-llmops/static/"

# Long: what is waited for comes at once on a quiet machine; tests share theirs.
SECONDS_TO_WAIT = 45

expect.set_options(timeout=SECONDS_TO_WAIT * 1000)

StartJupyter = Callable[[ServerExtension], Jupyter]
OpenWorkbench = Callable[[Jupyter], Workbench]

FAILED = pytest.StashKey[bool]()


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

        def start(extension: ServerExtension) -> Jupyter:
            return running.enter_context(Jupyter(tmp_path_factory.mktemp("jupyter"), extension))

        yield start


@pytest.fixture
def workbench(browser: Browser) -> Iterator[OpenWorkbench]:
    """Return a function that opens a fresh page on a Jupyter; an error in our script fails the test."""
    with ExitStack() as opened:
        pages: list[Workbench] = []

        def open_page(jupyter: Jupyter) -> Workbench:
            pages.append(new_page(browser, jupyter))
            opened.callback(pages[-1].close)
            return pages[-1]

        yield open_page
    assert [error for page in pages for error in errors_of_ours(page)] == []


class SharedPage:
    """The page that a file's tests share: loading JupyterLab takes longer than most tests."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._page: Workbench | None = None
        self._errors: list[str] = []

    def open(self, jupyter: Jupyter) -> Workbench:
        """Return the page, loaded and with the sidebar shown, as the last test left it."""
        if self._page is None:
            self._page = new_page(self._browser, jupyter)
            self._page.open()
        return self._page

    def close(self) -> None:
        """Have the next test get a fresh page."""
        if self._page is not None:
            self._page.close()
            self._errors += errors_of_ours(self._page)
            self._page = None

    def new_errors(self) -> list[str]:
        """Return what our script raised since this was asked last."""
        errors, self._errors = self._errors, []
        return errors + ([] if self._page is None else errors_of_ours(self._page))


@pytest.fixture(scope="module")
def page_of_the_file(browser: Browser) -> Iterator[SharedPage]:
    page = SharedPage(browser)
    yield page
    page.close()
    assert page.new_errors() == []


@pytest.fixture
def shared_page(request: pytest.FixtureRequest, page_of_the_file: SharedPage) -> Iterator[SharedPage]:
    """Return the page that the file's tests share; after a test that fails, the next one gets a fresh page."""
    yield page_of_the_file
    errors = page_of_the_file.new_errors()
    if errors or request.node.stash.get(FAILED, False):
        page_of_the_file.close()
    assert errors == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a test failed, for the page that it used."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def new_page(browser: Browser, jupyter: Jupyter) -> Workbench:
    """Return an empty page of a visitor's own."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, locale="en-GB")
    context.grant_permissions(["clipboard-read"])
    page = context.new_page()
    page.set_default_timeout(SECONDS_TO_WAIT * 1000)
    return Workbench(page, jupyter)


def errors_of_ours(page: Workbench) -> list[str]:
    """Return what our script raised, and forget it."""
    # Notebook 7 has an error of its own while it starts, with or without this sidebar.
    raised = [error for error in page.errors if OUR_SCRIPTS in error]
    page.errors.clear()
    return raised


@pytest.fixture(scope="session")
def screenshots(repository: Path) -> Path:
    """Return the folder that the screenshots are written to."""
    return repository / "build" / "screenshots"
