"""The sidebar beside real kernels and the real server extension."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ui.colleague import NOTE_WHEN_SEEN, Colleague
from ui.conftest import OpenWorkbench, SharedPage, StartJupyter
from ui.jupyter import Jupyter
from ui.workbench import Workbench

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DESK = "first.ipynb"

PUBLISH = """import jupyter_llmops
workspace = jupyter_llmops.open_workspace()
saved = workspace.catalog.prompts.publish(
    "shared-greeting", "Greet {{ name }}.", system="", model="", parameters=(), variables=("name",),
    description="",
)
print("published", saved.name, "version", saved.version)"""

READ = """import jupyter_llmops
print([prompt.name for prompt in jupyter_llmops.open_workspace().catalog.prompts.list()])"""


@pytest.fixture(scope="module")
def jupyter(start_jupyter: StartJupyter) -> Jupyter:
    """Return a Jupyter with our extension; tests share it and its catalog."""
    return start_jupyter("real")


@pytest.fixture
def lab(jupyter: Jupyter, shared_page: SharedPage) -> Workbench:
    """Return the page with the sidebar that tests share."""
    return shared_page.open(jupyter)


@pytest.fixture
def desk(lab: Workbench) -> str:
    """Return the notebook that tests run their cells in: open in the page, with a kernel and our extension."""
    lab.open_notebook(DESK)
    assert "Error" not in lab.run_cell(DESK, "%load_ext jupyter_llmops")
    return DESK


# The first test, for it tells of a catalog that nobody has used.
def test_the_first_hour(jupyter: Jupyter, lab: Workbench, screenshots: Path) -> None:
    # Nothing was done yet: the sidebar says what to type.
    expect(lab.sidebar.get_by_text("Live", exact=True)).to_be_visible()
    expect(lab.sidebar.locator(".jp-LLMOps-catalog")).to_have_attribute(
        "title", re.compile(rf"^Catalog: {re.escape(str(jupyter.work / '.llmops'))}\n")
    )
    expect(lab.section("runs")).to_contain_text("%load_ext jupyter_llmops")
    expect(lab.section("prompts")).to_contain_text("%%prompt -s NAME")
    expect(lab.section("collections")).to_contain_text("%collections add NAME")
    expect(lab.section("gpus").get_by_role("meter", name="RAM")).to_be_visible()
    lab.set_width(340)
    lab.screenshot(screenshots / "first-look.png")

    # A cell runs: its run shows without a reload.
    lab.page.evaluate("() => { window.sameVisit = true }")
    lab.open_notebook(DESK)
    loaded = lab.run_cell(DESK, "%load_ext jupyter_llmops")
    assert "Error" not in loaded
    lab.run_cell(DESK, "answer = 6 * 7")
    ran = lab.rows("runs").filter(has_text="answer = 6 * 7")
    expect(ran).to_have_count(1)
    expect(ran).to_contain_text("cell")
    expect(ran).to_contain_text("ok")
    lab.run_cell(DESK, "undefined_name")
    failed = lab.rows("runs").filter(has_text="undefined_name")
    expect(failed).to_contain_text("error · NameError")
    assert lab.page.evaluate("() => window.sameVisit"), "the page was reloaded"
    # The catalog was made meanwhile, with a prompts table that is empty: nothing complains of it.
    lab.run_command("jupyter-llmops:refresh")
    expect(lab.section("prompts")).to_contain_text("%%prompt -s NAME")
    expect(lab.sidebar.get_by_role("button", name="Retry")).to_have_count(0)
    lab.screenshot(screenshots / "after-cells.png")

    # After a reload it is still there, and still live.
    lab.reload()
    expect(ran).to_have_count(1)
    lab.run_cell(DESK, "after_reload = True")
    expect(lab.rows("runs").filter(has_text="after_reload = True")).to_have_count(1)


def test_a_secret_typed_in_a_cell_is_not_shown(lab: Workbench, desk: str) -> None:
    lab.run_cell(desk, 'api_key = "sk-proj-Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA"')
    shown = lab.rows("runs").filter(has_text="api_key")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("[redacted:")
    expect(shown).not_to_contain_text("sk-proj")


def test_notebooks_in_sibling_folders_and_the_sidebar_see_the_same_prompt(
    jupyter: Jupyter, lab: Workbench
) -> None:
    lab.open_notebook("north/publish.ipynb")
    assert "published shared-greeting version 1" in lab.run_cell("north/publish.ipynb", PUBLISH)
    shown = lab.section("prompts").locator('[data-row="shared-greeting"]')
    expect(shown).to_contain_text("v1")
    expect(shown).to_contain_text("Greet {{ name }}.")
    lab.open_notebook("south/read.ipynb")
    assert "shared-greeting" in lab.run_cell("south/read.ipynb", READ)
    again = json.loads(jupyter.ask("jupyter-llmops/prompts"))
    assert [prompt["name"] for prompt in again["prompts"]] == ["shared-greeting"]
    # The sidebar's button puts it into the notebook that is open, ready to be completed.
    shown.get_by_role("button", name="Insert").click()
    expect(lab.page.locator(".jp-Notebook:visible .jp-Cell").last).to_contain_text(
        "%prompt shared-greeting name="
    )


def test_two_pages_hear_of_the_same_run(
    jupyter: Jupyter, lab: Workbench, desk: str, workbench: OpenWorkbench
) -> None:
    other = workbench(jupyter)
    other.open()
    expect(other.sidebar.get_by_text("Live", exact=True)).to_be_visible()
    lab.run_cell(desk, "seen_by = 'both'")
    for page in (lab, other):
        expect(page.rows("runs").filter(has_text="seen_by = 'both'")).to_have_count(1)


def test_what_a_colleague_does_shows_without_a_ring(
    jupyter: Jupyter, lab: Workbench, record_property: Callable[[str, object], None]
) -> None:
    # The other process has no Jupyter server to ring at, and the sidebar does not poll.
    with Colleague(jupyter.work / ".llmops") as colleague:
        expect(lab.rows("collections").filter(has_text="agreed-texts")).to_have_count(1)
        lab.page.evaluate(NOTE_WHEN_SEEN)
        for noun, name, seen in (
            ("collection", "new-texts", "new-texts"),
            ("prompt", "new-prompt", "new-prompt"),
            ("model", "new-model", "new-model"),
            ("alias", "prod", "prod"),
            ("documents", "first.md", "agreed-texts of 1 document"),
        ):
            done = colleague.publish(noun, name)
            lab.page.wait_for_function("word => window.seenAt[word] !== undefined", arg=seen)
            took = lab.page.evaluate("word => window.seenAt[word]", seen) - done
            record_property(f"{noun} seen after ms", round(took))
            print(f"{noun}: seen {took:.0f} ms after it was published")
