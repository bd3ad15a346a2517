"""Every state of the sidebar, in a real JupyterLab whose server a test steers."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from ui import samples
from ui.conftest import OpenWorkbench, SharedPage, StartJupyter
from ui.jupyter import NO_POLL, Jupyter, write_json
from ui.workbench import Workbench

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SECTIONS = ("gpus", "models", "prompts", "collections", "runs")
NARROW = 280


@pytest.fixture(scope="module")
def steered(start_jupyter: StartJupyter) -> Jupyter:
    """Return a Jupyter whose sidebar shows what the test says."""
    return start_jupyter("standin")


@pytest.fixture
def jupyter(steered: Jupyter) -> Jupyter:
    steered.show(**samples.everything())
    return steered


@pytest.fixture
def lab(jupyter: Jupyter, shared_page: SharedPage) -> Workbench:
    """Return the shared page, filled; what other tests did to it, and had the server say, is gone."""
    lab = shared_page.open(jupyter)
    lab.put_back()
    lab.read_everything()
    for section, records in (("gpus", 3), ("models", 4), ("prompts", 4), ("collections", 3), ("runs", 8)):
        expect(lab.rows(section)).to_have_count(records)
    for role in ("alert", "note"):
        expect(lab.sidebar.get_by_role(role)).to_have_count(0)
    return lab


def row(lab: Workbench, section: str, id: str) -> Locator:
    return lab.section(section).locator(f'[data-row="{id}"]')


def top(locator: Locator) -> float:
    box = locator.bounding_box()
    assert box is not None
    return box["y"]


# What is shown


def test_every_section_lists_its_records_with_a_count(lab: Workbench) -> None:
    expect(lab.sidebar.locator("h3")).to_have_text(["GPUs2", "Models4", "Prompts4", "Collections3", "Runs8"])
    expect(row(lab, "models", "smollm2-135m-instruct")).to_contain_text("cheap135 M weights89.6 MiB")
    expect(row(lab, "prompts", "summarise-ticket")).to_contain_text("v412 min ago")
    expect(row(lab, "runs", "2f4c8d1e2b3a4956")).to_contain_text("ok · 56 tokens · cache · triage.ipynb")
    expect(lab.sidebar.get_by_text("Live", exact=True)).to_be_visible()


def test_the_catalog_is_shortened_and_whole_on_hover(lab: Workbench) -> None:
    shown = lab.sidebar.get_by_text("…/support-bot/.llmops")
    expect(shown).to_be_visible()
    explained = lab.sidebar.locator(".jp-LLMOps-catalog").get_attribute("title") or ""
    assert explained.splitlines() == [
        "Catalog: /home/ada/projects/support-bot/.llmops",
        "Your own: /home/ada/.local/share/jupyter/llmops/catalog",
        "What others change shows within 500 ms.",
    ]


def test_a_relative_time_has_the_exact_one_on_hover(lab: Workbench) -> None:
    moment = row(lab, "prompts", "summarise-ticket").locator("time")
    expect(moment).to_have_text("12 min ago")
    exact = moment.get_attribute("title") or ""
    assert ":" in exact
    assert "202" in exact


@pytest.mark.parametrize(("id", "word"), [("3f4c8d1e2b3a4956", "error"), ("4f4c8d1e2b3a4956", "interrupted")])
def test_a_status_is_an_icon_and_a_word(lab: Workbench, id: str, word: str) -> None:
    shown = row(lab, "runs", id)
    expect(shown).to_contain_text(word)
    expect(shown.locator(f".jp-LLMOps-status.jp-mod-{word} svg")).to_be_visible()


def test_usage_is_a_bar_that_says_its_number(lab: Workbench) -> None:
    memory = row(lab, "gpus", "gpu-0").get_by_role("meter", name="Memory")
    expect(memory).to_have_attribute("aria-valuenow", "43")
    track, fill = memory.bounding_box(), memory.locator(".jp-LLMOps-barFill").bounding_box()
    assert track is not None
    assert fill is not None
    assert fill["width"] / track["width"] == pytest.approx(34 / 80, abs=0.02)
    expect(row(lab, "gpus", "gpu-0")).to_contain_text("34.0 / 80.0 GiB")
    expect(row(lab, "gpus", "cpu-host").get_by_role("meter", name="RAM")).to_be_visible()


def test_what_nobody_could_measure_is_a_dash_and_never_0(jupyter: Jupyter, lab: Workbench) -> None:
    unknown = samples.device(
        memory_free_bytes=None, utilization_percent=None, processes=None, price_per_hour=None
    )
    jupyter.show(gpus=samples.gpus(unknown, samples.CPU), ring="gpus")
    shown = row(lab, "gpus", "gpu-0")
    expect(shown).to_contain_text("— / 80.0 GiB")
    expect(shown).to_contain_text("— processes")
    expect(shown.get_by_role("img", name="Load: not known")).to_be_visible()
    expect(shown).not_to_contain_text("USD")
    expect(shown).not_to_contain_text("0 %")


def test_a_driver_that_is_missing_is_said_in_plain_words(jupyter: Jupyter, lab: Workbench) -> None:
    driver = {"status": "missing", "message": "Models run on the CPU here.", "version": ""}
    jupyter.show(gpus=samples.gpus(samples.CPU, driver=driver), ring="gpus")
    said = lab.section("gpus").get_by_text("No NVIDIA driver on this machine")
    expect(said).to_be_visible()
    more = lab.section("gpus").get_by_text("Models run on the CPU here.")
    expect(more).to_be_hidden()  # information, not a fault: it takes one line
    said.click()
    expect(more).to_be_visible()
    expect(lab.count("gpus")).to_have_text("0")
    expect(lab.rows("gpus")).to_have_count(1)


def test_a_driver_that_does_not_match_is_a_warning(jupyter: Jupyter, lab: Workbench) -> None:
    driver = {"status": "mismatched", "message": "Restart the machine, then look again.", "version": ""}
    jupyter.show(gpus=samples.gpus(samples.CPU, driver=driver), ring="gpus")
    expect(lab.section("gpus").get_by_text("Restart the machine, then look again.")).to_be_visible()


def test_markup_in_a_record_is_shown_not_run(lab: Workbench) -> None:
    hostile = row(lab, "prompts", "escape-<b>html</b>")
    expect(hostile).to_contain_text("escape-<b>html</b>")
    hostile.get_by_role("button").first.click()
    expect(hostile.locator("pre")).to_contain_text("<script>window.hacked = true</script>")
    assert lab.page.evaluate("() => window.hacked") is None


# What is not there


def test_empty_lists_say_what_to_type(jupyter: Jupyter, lab: Workbench) -> None:
    jupyter.show(
        models={"models": []}, prompts={"prompts": []}, collections={"collections": []}, runs={"runs": []}
    )
    lab.read_everything()
    expect(lab.section("models")).to_contain_text("%%prompt -m smollm2-135m-instruct")
    expect(lab.section("prompts")).to_contain_text("%%prompt -s NAME")
    expect(lab.section("collections")).to_contain_text("%collections add NAME")
    expect(lab.section("runs")).to_contain_text("%load_ext jupyter_llmops")
    expect(lab.count("runs")).to_have_text("0")


def test_loading_keeps_the_place_of_what_comes(jupyter: Jupyter, lab: Workbench) -> None:
    before = {name: top(lab.section(name)) for name in SECTIONS}
    answers = samples.everything()
    jupyter.show(**{route: answers[route] | {"$wait": True} for route in SECTIONS})
    lab.reload()
    expect(lab.section("runs").get_by_label("Loading")).to_be_visible()
    assert lab.rows("models").count() == 0
    loading = {name: top(lab.section(name)) for name in SECTIONS}
    jupyter.show(**answers)
    expect(lab.rows("runs")).to_have_count(8)
    expect(lab.rows("gpus")).to_have_count(3)
    after = {name: top(lab.section(name)) for name in SECTIONS}
    assert loading == pytest.approx(before, abs=1)
    assert after == pytest.approx(before, abs=1)


def test_an_error_says_what_to_do_and_retry_reads_again(jupyter: Jupyter, lab: Workbench) -> None:
    error = {"$status": 500, "message": "The catalog is damaged.", "hint": "Type %llmops doctor."}
    # An answer of another version is an error too, and not a blank.
    jupyter.show(prompts=error, models={"models": None}, collections={"collections": [{}]}, gpus={})
    lab.reload()
    section = lab.section("prompts")
    expect(section.get_by_role("alert")).to_contain_text("The catalog is damaged.Type %llmops doctor.")
    for odd in ("gpus", "models", "collections"):
        expect(lab.section(odd).get_by_role("alert")).to_contain_text("does not understand")
    expect(lab.rows("runs")).to_have_count(8)  # the others are not held back
    jupyter.show(prompts=samples.prompts())
    lab.wait_until_read()
    section.get_by_role("button", name="Retry").click()
    expect(lab.rows("prompts")).to_have_count(4)
    expect(section.get_by_role("alert")).to_have_count(0)


def test_what_was_read_stays_when_reading_it_again_fails(jupyter: Jupyter, lab: Workbench) -> None:
    jupyter.show(runs={"$status": 500, "message": "The disk is full.", "hint": ""}, ring="runs")
    expect(lab.section("runs")).to_contain_text("Not up to date: The disk is full.")
    expect(lab.rows("runs")).to_have_count(8)
    jupyter.show(runs={"rows": []}, ring="runs")  # of another version
    expect(lab.section("runs")).to_contain_text("does not understand")
    expect(lab.rows("runs")).to_have_count(8)


def test_a_refresh_during_another_is_not_dropped(jupyter: Jupyter, lab: Workbench) -> None:
    refresh = lab.sidebar.get_by_role("button", name="Read everything now")
    jupyter.show(runs=samples.runs() | {"$wait": True}, prompts={"prompts": []})
    refresh.click()
    expect(lab.rows("prompts")).to_have_count(0)  # and the runs are waited for
    jupyter.show(prompts=samples.prompts())
    refresh.click()
    expect(lab.rows("prompts")).to_have_count(4)
    jupyter.show(runs=samples.runs())
    lab.wait_until_read()


def test_a_catalog_that_has_a_problem_says_so(jupyter: Jupyter, lab: Workbench) -> None:
    catalog = samples.catalog(
        path="/mnt/team/.llmops", writable=False, problem="/mnt/team/.llmops is not writable."
    )
    jupyter.show(status=samples.status(catalog=catalog))
    lab.sidebar.get_by_role("button", name="Read everything now").click()
    expect(lab.sidebar.get_by_role("note")).to_contain_text("/mnt/team/.llmops is not writable.")


# What changes


def test_a_new_run_appears_without_disturbing_the_rest(jupyter: Jupyter, lab: Workbench) -> None:
    old = row(lab, "runs", "2f4c8d1e2b3a4956")
    old.get_by_role("button").first.click()
    old.evaluate("node => { node.marked = true }")
    places = {name: top(lab.section(name)) for name in SECTIONS}
    height = old.bounding_box()
    runs = samples.runs()["runs"]
    jupyter.show(runs={"runs": [samples.run("aaaaaaaaaaaaaaaa", preview="1 + 1"), *runs]}, ring="runs")
    expect(lab.rows("runs")).to_have_count(9)
    expect(lab.rows("runs").first).to_contain_text("1 + 1")
    expect(lab.count("runs")).to_have_text("9")
    assert old.evaluate("node => node.marked"), "the row was built anew"
    expect(old.get_by_role("button").first).to_have_attribute("aria-expanded", "true")
    assert {name: top(lab.section(name)) for name in SECTIONS} == places
    after = old.bounding_box()
    assert height is not None
    assert after is not None
    assert after["height"] == height["height"]


def test_nothing_is_asked_while_the_sidebar_is_hidden(jupyter: Jupyter, lab: Workbench) -> None:
    lab.page.evaluate(
        """() => {
          window.rung = 0;
          window.jupyterapp.serviceManager.events.stream.connect(() => { window.rung += 1; });
        }"""
    )
    lab.run_command("application:toggle-right-area")
    expect(lab.sidebar).to_be_hidden()
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url))
    jupyter.show(prompts={"prompts": [samples.prompt("fresh")]}, ring="prompts")
    lab.page.wait_for_function("() => window.rung > 0")
    assert [url for url in asked if "/jupyter-llmops/" in url] == []
    lab.run_command("jupyter-llmops:open")
    expect(lab.rows("prompts")).to_have_count(1)


# What a person does with it


def test_the_filter_counts_and_escape_clears_it(lab: Workbench) -> None:
    box = lab.sidebar.get_by_role("searchbox")
    box.fill("cache prompt")
    expect(lab.rows("runs")).to_have_count(1)
    expect(lab.count("runs")).to_have_text("1 of 8")
    expect(lab.section("models")).to_contain_text("No models match the filter.")
    box.press("Escape")
    expect(box).to_have_value("")
    expect(lab.rows("runs")).to_have_count(8)


def test_a_closed_section_stays_closed_after_a_reload(lab: Workbench) -> None:
    heading = lab.section("models").get_by_role("heading").get_by_role("button")
    heading.click()
    expect(heading).to_have_attribute("aria-expanded", "false")
    expect(lab.rows("models")).to_have_count(0)
    lab.reload()
    expect(lab.rows("prompts")).to_have_count(4)
    expect(heading).to_have_attribute("aria-expanded", "false")
    expect(lab.rows("models")).to_have_count(0)


def test_the_keyboard_opens_rows_and_walks_between_them(lab: Workbench) -> None:
    first = lab.rows("runs").nth(0).get_by_role("button").first
    first.focus()
    lab.page.keyboard.press("Enter")
    expect(first).to_have_attribute("aria-expanded", "true")
    expect(lab.rows("runs").nth(0)).to_contain_text("20260110-ada-7f3c line 4")
    lab.page.keyboard.press("ArrowDown")
    expect(lab.rows("runs").nth(1).get_by_role("button").first).to_be_focused()
    lab.page.keyboard.press("ArrowUp")
    expect(first).to_be_focused()


def test_every_button_has_a_name(lab: Workbench) -> None:
    names = lab.sidebar.get_by_role("button").evaluate_all(
        "all => all.map(it => it.getAttribute('aria-label') || it.textContent.trim())"
    )
    assert len(names) > 20
    assert all(names)


@pytest.mark.parametrize(
    ("section", "id", "text"),
    [
        ("models", "all-minilm-l6-v2", "all-minilm-l6-v2"),
        ("runs", "0f4c8d1e2b3a4956", "%reproduce 0f4c8d1e2b3a4956"),
        ("runs", "3f4c8d1e2b3a4956", "%runs show 3f4c8d1e2b3a4956"),
    ],
)
def test_copying(lab: Workbench, section: str, id: str, text: str) -> None:
    button = row(lab, section, id).get_by_role("button", name="Copy")
    button.click()
    expect(row(lab, section, id).get_by_role("button", name="Copied")).to_be_visible()
    assert lab.page.evaluate("() => navigator.clipboard.readText()") == text


def test_without_a_notebook_the_line_is_copied_instead(lab: Workbench) -> None:
    row(lab, "prompts", "greet").get_by_role("button", name="Insert").click()
    expect(lab.page.get_by_text("No notebook is open, so it was copied")).to_be_visible()
    assert lab.page.evaluate("() => navigator.clipboard.readText()") == "%prompt greet topic="


def test_a_prompt_is_inserted_as_a_new_cell_and_not_run(lab: Workbench) -> None:
    lab.open_notebook("insert.ipynb")
    row(lab, "prompts", "summarise-ticket").get_by_role("button", name="Insert").click()
    cells = lab.page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets.map(cell => ({
          source: cell.model.sharedModel.getSource(),
          count: cell.model.executionCount,
        }))"""
    )
    assert cells == [
        {"source": "", "count": None},
        {"source": "%prompt summarise-ticket ticket= tone=", "count": None},
    ]
    lab.page.keyboard.type("T-1")  # the cursor waits where the first value goes
    source = "() => window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource()"
    assert lab.page.evaluate(source) == "%prompt summarise-ticket ticket=T-1 tone="


# How it looks


@pytest.mark.parametrize(("theme", "name"), [("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")])
def test_it_follows_the_theme(lab: Workbench, screenshots: Path, theme: str, name: str) -> None:
    lab.use_theme(theme)
    colors = lab.sidebar.evaluate(
        """node => {
          const probe = document.createElement('div');
          probe.style.background = 'var(--jp-layout-color1)';
          probe.style.color = 'var(--jp-ui-font-color1)';
          node.append(probe);
          const [own, theme] = [getComputedStyle(node), getComputedStyle(probe)];
          const result = [own.backgroundColor, own.color, theme.backgroundColor, theme.color];
          probe.remove();
          return result;
        }"""
    )
    assert colors[:2] == colors[2:]
    assert (sum(rgb(colors[0])) > 600) == (name == "light")
    for width in (NARROW, 360):
        lab.set_width(width)
        assert cut_off(lab) == []
        lab.screenshot(screenshots / f"{name}-{width}.png")


def cut_off(lab: Workbench) -> list[str]:
    """Return the texts of numbers, times and buttons that do not fit the sidebar."""
    return lab.sidebar.evaluate(
        """node => {
          const content = node.querySelector('.jp-LLMOps-content');
          const edge = content.getBoundingClientRect().left + content.clientWidth + 0.5;
          const parts = '.jp-LLMOps-rowAside, .jp-LLMOps-rowActions, .jp-LLMOps-barText, .jp-LLMOps-number';
          return [...node.querySelectorAll(parts)]
            .filter(it => it.getBoundingClientRect().right > edge || it.scrollWidth > it.clientWidth + 1)
            .map(it => it.textContent);
        }"""
    )


def rgb(color: str) -> list[int]:
    return [int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(",")]


# What takes a page of its own, or leaves the shared one behind


def test_a_missing_server_extension_says_how_to_enable_it(
    start_jupyter: StartJupyter, workbench: OpenWorkbench, screenshots: Path
) -> None:
    lab = workbench(start_jupyter("missing"))
    lab.open()
    expect(lab.sidebar).to_contain_text("jupyter server extension enable jupyter_llmops")
    expect(lab.sidebar).to_contain_text("jupyter server extension list")
    expect(lab.sidebar.get_by_text("Not enabled")).to_be_visible()
    expect(lab.sidebar.locator("[data-section]")).to_have_count(0)
    lab.set_width(NARROW)
    lab.screenshot(screenshots / "missing-extension.png")


def test_the_same_bundle_works_in_notebook_7(
    jupyter: Jupyter, workbench: OpenWorkbench, screenshots: Path
) -> None:
    notebook = workbench(jupyter)
    notebook.create_notebook("seven.ipynb")
    notebook.open("notebooks/seven.ipynb")
    expect(notebook.rows("runs")).to_have_count(8)
    notebook.wait_for_kernel("seven.ipynb")
    row(notebook, "prompts", "greet").get_by_role("button", name="Insert").click()
    expect(notebook.page.locator(".jp-Cell")).to_have_count(2)
    notebook.screenshot(screenshots / "notebook-7.png")


def test_a_server_that_went_away_is_said_and_forgotten_when_it_is_back(lab: Workbench) -> None:
    lab.page.context.set_offline(True)
    lab.sidebar.get_by_role("button", name="Read everything now").click()
    expect(lab.sidebar.get_by_role("alert")).to_contain_text("The Jupyter server does not answer.")
    expect(lab.sidebar.get_by_text("Lost", exact=True)).to_be_visible()
    expect(lab.rows("runs")).to_have_count(8)
    lab.page.context.set_offline(False)
    lab.wait_until_read()
    lab.sidebar.get_by_role("button", name="Retry").click()
    expect(lab.sidebar.get_by_text("Live", exact=True)).to_be_visible()
    expect(lab.sidebar.get_by_role("alert")).to_have_count(0)


def test_the_poll_finds_what_no_doorbell_told(
    jupyter: Jupyter, lab: Workbench, shared_page: SharedPage
) -> None:
    write_json(jupyter.sidebar_settings, {"pollInterval": 2, "side": "left"})
    try:
        lab.open()  # in a workspace that does not remember the right side
        expect(lab.page.locator("#jp-left-stack #jupyter-llmops-sidebar")).to_be_visible()
        expect(lab.rows("prompts")).to_have_count(4)
        jupyter.show(prompts={"prompts": [samples.prompt("quiet")]})
        expect(lab.rows("prompts")).to_have_count(1)
    finally:
        write_json(jupyter.sidebar_settings, NO_POLL)
        shared_page.close()
