"""Writes the README's table of the catalog from the code: ``python tests/architecture/readme_tables.py``."""

from __future__ import annotations

from pathlib import Path

from jupyter_llmops.catalog.schemas import KEYS, PURPOSES, schema_of

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- catalog:begin -->\n", "<!-- catalog:end -->"


def catalog_table() -> str:
    """Return the tables of the catalog as Markdown: what a row is, its key, its columns."""
    lines = ["| table | what it holds | key | columns |", "| --- | --- | --- | --- |"]
    for table, key in KEYS.items():
        columns = ", ".join(name for name in schema_of(table).names if name != key)
        lines.append(f"| `{table}` | {PURPOSES[table]} | `{key}` | {columns} |")
    return "\n".join(lines) + "\n"


def with_catalog_table(readme: str) -> str:
    """Return the README with the table as the code has it."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{catalog_table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_catalog_table(README.read_text("utf-8")), "utf-8")
