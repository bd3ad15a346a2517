from __future__ import annotations

import sys
from pathlib import Path

import pytest

from catalog_processes import acknowledged, go, start
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.prompt_content import content_digest
from jupyter_llmops.errors import ConflictError, UnknownNameError, UsageError
from jupyter_llmops.records.prompt import Example, Variable

# Promotes p to its own version under 8 aliases that nobody has moved yet, and says which it moved.
PROMOTER = """
import json, sys
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import ConflictError
catalog = Catalog(sys.argv[1], site="lab", user=sys.argv[2])
catalog.prompts.get("p")
print('"ready"', flush=True)
sys.stdin.readline()
for number in range(8):
    try:
        catalog.prompts.promote("p", f"alias-{number}", int(sys.argv[3]), expected=0)
        print(json.dumps([sys.argv[2], number, "moved"]), flush=True)
    except ConflictError as error:
        print(json.dumps([sys.argv[2], number, str(error)]), flush=True)
"""


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


def test_a_version_of_the_first_release_keeps_its_digest() -> None:
    first = "sha256:0245bffcca0c1313fa294e3442e4fc1f53733a1d98fd719f751204acd91db2c0"
    content = ("Hi {{ x }}", "Be kind", "m", (("seed", 1),))
    assert content_digest(*content) == first
    others = [
        content_digest(*content, declarations=(Variable("x"),)),
        content_digest(*content, declarations=(Variable("x", "int"),)),
        content_digest(*content, declarations=(Variable("x", "int", None, has_default=True),)),
        content_digest(*content, includes={"a@1": "sha256:1"}),
        content_digest(*content, includes={"a@1": "sha256:2"}),
    ]
    assert len({first, *others}) == 6


def test_declarations_and_includes_are_content(catalog: Catalog) -> None:
    declared = (Variable("x", "int", 3, has_default=True, description="how many"), Variable("a", "str"))
    first = catalog.prompts.publish("p", "{{ x }}", declarations=declared, includes={"b@2": "sha256:b"})
    assert catalog.prompts.get("p") == first
    assert [variable.name for variable in first.declarations] == ["a", "x"]
    assert first.declarations[1] == declared[0]
    assert first.includes == ("b@2",)
    assert catalog.prompts.publish("p", "{{ x }}").version == 2
    again = catalog.prompts.publish("p", "{{ x }}", declarations=declared[::-1], includes={"b@2": "sha256:b"})
    assert again.version == 1


def test_what_is_said_and_moved_is_joined_on_reading(catalog: Catalog) -> None:
    catalog.prompts.publish("p", "one")
    catalog.prompts.publish("p", "two")
    catalog.prompts.publish("q", "x", description="of the first release")
    example = Example((("x", 1), ("y", None)), "an answer")
    catalog.prompts.describe("p", description="d", tags=["b", "a", "b"], examples=[example])
    catalog.prompts.promote("p", "prod", 1)
    catalog.prompts.promote("p", "next", "prod")
    found = catalog.prompts.get("p", "prod")
    assert (found.version, found.aliases, found.tags) == (1, ("next", "prod"), ("a", "b"))
    assert (found.description, found.examples) == ("d", (example,))
    catalog.prompts.promote("p", "next")
    assert catalog.prompts.get("p").aliases == ("next",)
    assert catalog.prompts.get("q").description == "of the first release"
    catalog.prompts.describe("q", description="")
    assert catalog.prompts.get("q").description == ""
    moves = [
        (change.field, change.value, change.created_by) for change in catalog.prompts.get("p").alias_moves
    ]
    assert moves == [("alias:next", 2, "ada"), ("alias:prod", 1, "ada")]
    catalog.prompts.retire("p", "old")
    assert [prompt.name for prompt in catalog.prompts.list()] == ["q"]
    assert [prompt.retired for prompt in catalog.prompts.list(retired=True)] == [True, False]
    catalog.prompts.restore("p")
    assert len(catalog.prompts.list()) == 2


def test_an_alias_that_moved_meanwhile_is_not_moved(catalog: Catalog) -> None:
    for text in ("one", "two"):
        catalog.prompts.publish("p", text)
    seen = catalog.prompts.promote("p", "prod", 1)
    bob = Catalog(catalog.folder, site="lab", user="bob")
    bob.prompts.promote("p", "prod", 2, expected=seen.revision)
    with pytest.raises(ConflictError, match="moved to 2 by bob"):
        catalog.prompts.promote("p", "prod", 1, expected=seen.revision)
    assert catalog.prompts.get("p", "prod").version == 2
    bob.prompts.demote("p", "prod")
    with pytest.raises(UnknownNameError, match="versions 1 to 2"):
        catalog.prompts.get("p", "prod")


def test_two_processes_promote_at_once(catalog: Catalog) -> None:
    for text in ("one", "two"):
        catalog.prompts.publish("p", text)
    promoters = start(
        [sys.executable, "-c", PROMOTER, str(catalog.folder), f"user{n}", str(n)] for n in (1, 2)
    )
    go(promoters)
    answers = acknowledged(promoters)
    assert len(answers) == 16
    aliases = catalog.prompts.aliases("p")
    for number in range(8):
        moved = [user for user, alias, said in answers if (alias, said) == (number, "moved")]
        refused = [said for _, alias, said in answers if alias == number and said != "moved"]
        assert len(moved) == len(refused) == 1, "one of two, never both"
        assert moved[0] in refused[0], "the other is told who was first"
        change = aliases[f"alias-{number}"]
        assert (f"user{change.value}", change.created_by, change.revision) == (moved[0], moved[0], 1)


def test_a_number_from_elsewhere_is_kept_where_it_is_free(catalog: Catalog) -> None:
    assert catalog.prompts.publish("p", "two", version=2).version == 2
    assert catalog.prompts.publish("p", "one", version=1).version == 3
    assert catalog.prompts.publish("p", "two", version=9).version == 2, "known content keeps its version"
    with pytest.raises(UnknownNameError, match="the versions 2, 3"):
        catalog.prompts.get("p", 1)


def test_a_name_that_differs_by_case_only_is_refused(catalog: Catalog) -> None:
    catalog.prompts.publish("Größe", "x")
    for name in ("größe", "GRÖßE"):
        with pytest.raises(UsageError, match="'Größe', which differs"):
            catalog.prompts.publish(name, "x")
    catalog.prompts.publish("Gro\u0308ße", "y")
    assert [prompt.version for prompt in catalog.prompts.versions("Größe")] == [1, 2]


def test_an_old_name_that_became_a_word_is_still_read_and_published(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_llmops.catalog.names.RESERVED_NAMES", frozenset())
    catalog.prompts.publish("publish", "one")
    monkeypatch.undo()
    assert catalog.prompts.publish("publish", "two").version == 2
    assert catalog.prompts.get("publish", 1).template == "one"
    with pytest.raises(UsageError, match="sub-command"):
        catalog.prompts.publish("export", "one")


def test_a_catalog_of_the_first_release_is_read_as_it_is(catalog: Catalog) -> None:
    import lancedb

    catalog.prompts.publish("p", "Hi", description="d")
    database = lancedb.connect(str(catalog.folder))
    database.open_table("prompts").drop_columns(["declarations", "includes"])
    database.drop_table("changes")
    [prompt] = Catalog(catalog.folder, site="lab", user="bob").prompts.list()
    assert (prompt.template, prompt.description, prompt.declarations, prompt.aliases) == ("Hi", "d", (), ())
