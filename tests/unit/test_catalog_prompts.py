from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import UnknownNameError, UsageError


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def test_reading_an_absent_catalog_finds_nothing_and_creates_nothing(catalog: Catalog) -> None:
    assert catalog.prompts.list() == []
    with pytest.raises(UnknownNameError):
        catalog.prompts.get("greeting")
    assert not catalog.folder.exists()


def test_a_published_prompt_comes_back_whole(catalog: Catalog) -> None:
    template = "Dear {{ name }},\n  'quoted' \\ \"text\" — ünï 🙂\x00{% raw %}{{ x }}{% endraw %}"
    published = catalog.prompts.publish(
        "greeting",
        template,
        system="Be {{ mood }}.",
        model="smollm2-135m-instruct",
        parameters={"temperature": 0.5, "max_new_tokens": 12, "do_sample": True, "stop": None, "a": "b"},
        variables=["name", "mood"],
        description="for letters",
    )
    again = Catalog(catalog.folder, site="elsewhere", user="bob").prompts.get("greeting")
    assert again == published
    assert again.template == template
    assert (again.version, again.created_by, again.site) == (1, "ada", "lab")
    assert dict(again.parameters)["do_sample"] is True
    assert again.created_at is not None
    assert again.created_at.utcoffset() is not None


def test_new_content_is_the_next_version_and_the_old_one_stays(catalog: Catalog) -> None:
    first = catalog.prompts.publish("p", "one")
    second = catalog.prompts.publish("p", "two")
    third = catalog.prompts.publish("p", "two", system="other")
    fourth = catalog.prompts.publish("p", "two", system="other", parameters={"seed": 1})
    assert [first.version, second.version, third.version, fourth.version] == [1, 2, 3, 4]
    assert catalog.prompts.versions("p") == [first, second, third, fourth]
    assert catalog.prompts.get("p") == fourth
    assert catalog.prompts.get("p", 2) == second


def test_the_same_content_again_keeps_its_version(catalog: Catalog) -> None:
    first = catalog.prompts.publish("p", "one", parameters={"a": 1, "b": 2})
    catalog.prompts.publish("p", "two")
    again = catalog.prompts.publish("p", "one", parameters=(("b", 2), ("a", 1)), description="changed")
    assert again == first
    assert len(catalog.prompts.versions("p")) == 2


def test_the_same_content_under_another_name_is_another_prompt(catalog: Catalog) -> None:
    a, b = catalog.prompts.publish("a", "one"), catalog.prompts.publish("b", "one")
    assert (a.version, b.version) == (1, 1)
    assert a.digest == b.digest


def test_1_and_true_are_different_parameters(catalog: Catalog) -> None:
    catalog.prompts.publish("p", "one", parameters={"x": 1})
    assert catalog.prompts.publish("p", "one", parameters={"x": True}).version == 2


def test_the_list_has_the_newest_version_of_each_name(catalog: Catalog) -> None:
    for number in range(12):
        catalog.prompts.publish("many", f"text {number}")
    catalog.prompts.publish("Apple", "x")
    catalog.prompts.publish("zebra", "x")
    assert [(p.name, p.version) for p in catalog.prompts.list()] == [("Apple", 1), ("many", 12), ("zebra", 1)]


def test_names_that_look_like_filters_or_paths_are_just_names(catalog: Catalog) -> None:
    names = [
        "x' OR '1'='1",
        "../../etc/passwd",
        "a\\'b",
        "n%",
        "_",
        "%_%",
        "; DROP TABLE prompts",
        "Name",
    ]
    for name in names:
        catalog.prompts.publish(name, f"of {name}")
    for name in names:
        assert [p.template for p in catalog.prompts.versions(name)] == [f"of {name}"]
    assert {p.name for p in catalog.prompts.list()} == set(names)


def test_an_unknown_name_says_the_nearest(catalog: Catalog) -> None:
    catalog.prompts.publish("summarize", "x")
    with pytest.raises(UnknownNameError, match="Did you mean summarize") as caught:
        catalog.prompts.get("sumarize")
    assert caught.value.nearest == ["summarize"]


def test_an_unknown_version_says_which_there_are(catalog: Catalog) -> None:
    catalog.prompts.publish("p", "1")
    with pytest.raises(UnknownNameError, match="version 1 only"):
        catalog.prompts.get("p", 2)
    catalog.prompts.publish("p", "2")
    with pytest.raises(UnknownNameError, match="versions 1 to 2"):
        catalog.prompts.get("p", 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**60])
def test_a_parameter_without_a_canonical_form_is_refused(catalog: Catalog, value: float) -> None:
    with pytest.raises(UsageError, match="can't be saved"):
        catalog.prompts.publish("p", "x", parameters={"v": value})
    assert catalog.prompts.list() == []


def test_broken_unicode_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="can't be saved"):
        catalog.prompts.publish("p", "\ud800")


def test_ten_megabytes_are_kept(catalog: Catalog) -> None:
    template = "0123456789" * 1_000_000
    catalog.prompts.publish("big", template)
    assert catalog.prompts.get("big").template == template


def test_a_catalog_whose_table_is_empty_lists_nothing(catalog: Catalog) -> None:
    """The first stamped cell makes every table; until somebody saves a prompt its table is empty."""
    catalog.migrate()
    assert catalog.prompts.list() == []
    assert catalog.models.list() == []
    assert catalog.runs.list() == []
