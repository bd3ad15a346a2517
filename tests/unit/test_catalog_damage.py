from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog_writer import a_run
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.records.model import Model


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    for number in range(3):
        catalog.prompts.publish("p", f"text {number}")
    catalog.models.add(Model("m", "llm", "folder:/m"))
    catalog.runs.append([a_run("s", 0)])
    return catalog


def newest_manifest(table: Path) -> Path:
    return min((table / "_versions").glob("*.manifest"))  # Lance counts their names down


def truncate_manifest(table: Path) -> None:
    manifest = newest_manifest(table)
    manifest.write_bytes(manifest.read_bytes()[:20])


def empty_manifest(table: Path) -> None:
    newest_manifest(table).write_bytes(b"")


def drop_versions(table: Path) -> None:
    shutil.rmtree(table / "_versions")


def file_instead_of_folder(table: Path) -> None:
    shutil.rmtree(table)
    table.write_text("what?")


def garble_rows(table: Path) -> None:
    for piece in (table / "data").iterdir():
        piece.write_bytes(b"garbage")


def zero_rows(table: Path) -> None:
    for piece in (table / "data").iterdir():
        piece.write_bytes(bytes(piece.stat().st_size))


def halve_manifest(table: Path) -> None:
    manifest = newest_manifest(table)
    manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])


def drop_a_piece(table: Path) -> None:
    next((table / "data").iterdir()).unlink()


def contents(folder: Path) -> dict[str, str]:
    """Return a digest of every file of the catalog, locks aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


OF_THE_LIST = [truncate_manifest, halve_manifest, empty_manifest, drop_versions, file_instead_of_folder]
OF_THE_ROWS = [garble_rows, zero_rows, drop_a_piece]


@pytest.mark.parametrize(
    ("damage", "fresh"),
    # A handle that was open before may still hold rows in memory, and is right to use them.
    [(damage, fresh) for damage in OF_THE_LIST for fresh in (True, False)]
    + [(damage, True) for damage in OF_THE_ROWS],
)
def test_a_damaged_table_is_named_and_left_as_it_is(
    catalog: Catalog, damage: Callable[[Path], None], fresh: bool
) -> None:
    table = catalog.folder / "prompts.lance"
    damage(table)
    before = contents(catalog.folder)
    if fresh:
        catalog = Catalog(catalog.folder, site="lab", user="ada")
    for use in (
        catalog.prompts.list,
        lambda: catalog.prompts.get("p"),
        lambda: catalog.prompts.publish("p", "new"),
        lambda: catalog.prompts.publish("p", "text 1"),
    ):
        with pytest.raises(CatalogError) as caught:
            use()
        message = str(caught.value)
        assert str(table) in message
        assert "Restore it from a backup" in message
        assert ".rs:" not in message
        assert "\n" not in message
    assert contents(catalog.folder) == before
    # The other tables go on.
    assert catalog.models.get("m").source == "folder:/m"
    assert catalog.runs.last_seq("s") == 0
    if damage in OF_THE_LIST:  # counting rows does not read them
        state = catalog.describe()
        assert not state.writable
        assert str(table) in state.problem


def test_damaged_migrations_stop_writes_and_not_reads(catalog: Catalog) -> None:
    truncate_manifest(catalog.folder / "migrations.lance")
    before = contents(catalog.folder)
    again = Catalog(catalog.folder, site="lab", user="ada")
    assert len(again.prompts.versions("p")) == 3
    with pytest.raises(CatalogError, match=r"migrations\.lance"):
        again.prompts.publish("p", "new")
    assert contents(catalog.folder) == before


def test_a_file_where_the_catalog_should_be(tmp_path: Path) -> None:
    place = tmp_path / "catalog"
    place.write_text("mine")
    catalog = Catalog(place, site="lab", user="ada")
    for use in (catalog.prompts.list, lambda: catalog.prompts.publish("p", "x"), catalog.migrate):
        with pytest.raises(CatalogError, match="a file where a folder should be"):
            use()
    state = catalog.describe()
    assert (state.writable, str(place) in state.problem) == (False, True)
    assert place.read_text() == "mine"


def test_a_creation_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    folder = tmp_path / "catalog"
    (folder / "prompts.lance" / "_transactions").mkdir(parents=True)
    (folder / "prompts.lance" / "_transactions" / "0-cut.txn").write_bytes(b"x")
    catalog = Catalog(folder, site="lab", user="ada")
    assert catalog.prompts.list() == []
    assert catalog.prompts.publish("p", "x").version == 1


def test_a_catalog_that_was_removed_while_open_is_begun_anew(catalog: Catalog) -> None:
    shutil.rmtree(catalog.folder)
    assert catalog.prompts.list() == []
    assert catalog.prompts.publish("q", "x").version == 1
    assert [p.name for p in catalog.prompts.list()] == ["q"]


def test_a_folder_that_can_never_be_made(tmp_path: Path) -> None:
    catalog = Catalog(Path("/sys/llmops/catalog"), site="lab", user="ada")
    assert catalog.prompts.list() == []
    with pytest.raises(CatalogError, match="can't be written") as caught:
        catalog.prompts.publish("p", "x")
    assert "/sys/llmops/catalog" in str(caught.value)
    assert "LLMOPS_CATALOG" in caught.value.hint


READ_ONLY = """
import sys
from pathlib import Path
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import CatalogError
catalog = Catalog(Path(sys.argv[1]), site="lab", user="bob")
print(len(catalog.prompts.versions("p")), catalog.describe().writable, catalog.describe().problem)
try:
    catalog.prompts.publish("p", "new")
except CatalogError as error:
    print(error)
try:
    Catalog(Path(sys.argv[1]) / "below", site="lab", user="bob").prompts.publish("p", "new")
except CatalogError as error:
    print(error)
"""


def test_a_folder_without_write_permission_can_be_read(catalog: Catalog) -> None:
    # Root passes over permissions unless it gives that capability away.
    drop: list[str] = []
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root needs setpriv (util-linux) to feel permissions")
        drop = [setpriv, "--bounding-set=-dac_override"]
    folders = [catalog.folder, *(path for path in catalog.folder.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    before = contents(catalog.folder)
    try:
        done = subprocess.run(
            [*drop, sys.executable, "-c", READ_ONLY, str(catalog.folder)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    first, second, third = done.stdout.splitlines()
    assert first.startswith("3 False ")
    for line in (first, second, third):
        assert str(catalog.folder) in line
        assert "can't be written" in line
        assert "LLMOPS_CATALOG" in line
    assert done.stderr == ""
    assert contents(catalog.folder) == before


def test_two_commits_of_one_second_differ_where_times_are_whole_seconds(catalog: Catalog) -> None:
    versions = catalog.folder / "prompts.lance" / "_versions"

    def mark() -> int:
        os.utime(versions, (1_800_000_000, 1_800_000_000))
        return catalog.marks()["prompts"]

    before = mark()
    assert mark() == before
    catalog.prompts.publish("p", "one more")
    assert mark() != before
