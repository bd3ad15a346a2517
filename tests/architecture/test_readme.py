"""What the README says is what is there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from architecture.readme_tables import BEGIN, with_catalog_table


def test_the_figures_come_from_the_benchmarks(repository: Path) -> None:
    spec = importlib.util.spec_from_file_location("benchmark_run", repository / "benchmarks" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    results = json.loads((repository / "benchmarks" / "results" / "latest.json").read_text("utf-8"))
    assert set(results) >= {"load", "stamp", "hit", "decode"}
    readme = (repository / "README.md").read_text("utf-8")
    assert run.in_readme(readme, results) == readme, "type: make bench"


def test_the_table_of_the_catalog_comes_from_the_code(repository: Path) -> None:
    readme = (repository / "README.md").read_text("utf-8")
    assert BEGIN in readme
    assert with_catalog_table(readme) == readme, "type: python tests/architecture/readme_tables.py"


def test_every_picture_and_page_it_links_to_is_there(repository: Path) -> None:
    readme = (repository / "README.md").read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if "://" not in link]
    assert len(links) >= 4
    missing = [link for link in links if not (repository / link).exists()]
    assert not missing


def test_it_names_every_room(repository: Path) -> None:
    readme = (repository / "README.md").read_text("utf-8")
    rooms = [path.parent.name for path in (repository / "src" / "jupyter_llmops").glob("*/__init__.py")]
    assert [room for room in rooms if f"  {room}/" not in readme] == []
