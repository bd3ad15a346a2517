"""A colleague: another process, without a Jupyter of its own, that publishes to the same catalog.

Run as a script with the catalog's folder; every line of its input names what to publish, every line of its
output is when that was done, in milliseconds since 1970.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Self

NOUNS = ("prompt", "alias", "model", "collection", "documents")

# What is seen in the sidebar is noted by the page itself: asking it over and over would add to the delay.
NOTE_WHEN_SEEN = """() => {
  window.seenAt = {};
  const look = () => {
    const now = Date.now();
    for (const row of document.querySelectorAll('#jupyter-llmops-sidebar [data-row]')) {
      const words = [row.dataset.row, ...[...row.querySelectorAll('.jp-LLMOps-alias')].map(it => it.textContent)];
      words.push(...[...row.querySelectorAll('.jp-LLMOps-moreAliases')].flatMap(it => it.title.split(', ')));
      words.push(...(row.textContent.match(/of \\d+ documents?/g) ?? []).map(it => `${row.dataset.row} ${it}`));
      words.forEach(word => { window.seenAt[word] ??= now; });
    }
  };
  new MutationObserver(look).observe(
    document.querySelector('#jupyter-llmops-sidebar'), {childList: true, subtree: true, characterData: true});
  look();
}"""


class Colleague:
    """The other process, ready to publish.

    Parameters
    ----------
    catalog : Path
        Folder of the catalog.
    """

    def __init__(self, catalog: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(catalog)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        self._read()  # it is ready
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def publish(self, noun: str, name: str) -> float:
        """Publish, and return when that was done, in milliseconds since 1970."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{noun} {name}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> float:
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


def main(folder: str) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.model import Model
    from server_calls import add_documents, create_collection

    catalog = Catalog(Path(folder), site="elsewhere", user="colleague")
    catalog.migrate()
    catalog.prompts.publish("agreed", "Agree.")
    create_collection(catalog, "agreed-texts")
    print(time.time() * 1000, flush=True)
    for line in sys.stdin:
        noun, name = line.split()
        if noun == "prompt":
            catalog.prompts.publish(name, f"Say {name}.")
        elif noun == "alias":
            catalog.prompts.promote("agreed", name, 1)
        elif noun == "model":
            catalog.models.add(Model(name, "classic", f"folder:/{name}", digest=f"sha256:{name}"))
        elif noun == "collection":
            create_collection(catalog, name)
        else:
            add_documents(catalog, "agreed-texts", {name: f"Of {name}."})
        print(time.time() * 1000, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
