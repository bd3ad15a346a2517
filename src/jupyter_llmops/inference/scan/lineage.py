"""Which model another one was made from: the digest of a base that is known here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.scan.reading import reason
from jupyter_llmops.inference.sources import digest_of, packaged_hub_ids, resolve
from jupyter_llmops.records.model import Model


class Lineage:
    """Digests of models by every name that a config or card may call them.

    Parameters
    ----------
    known : iterable of Model
        Models of the catalog.
    memory : Path
        Folder that remembers the digests of files.
    """

    def __init__(self, known: Iterable[Model], memory: Path) -> None:
        self._digests: dict[str, str] = {}
        self._memory = memory
        for model in known:
            self.learn(model)

    def learn(self, model: Model) -> None:
        """Remember a model under its name, its hub id (with and without the revision) and its path."""
        if not model.digest:
            return
        scheme, _, place = model.source.partition(":")
        names = {model.name, place.partition("@")[0], place}
        if scheme == "package":
            names |= set(packaged_hub_ids(place))
        for name in names:
            self._digests.setdefault(name.casefold(), model.digest)

    def digest_of(self, base: str) -> str:
        """Return the digest of a base by its name, hub id or path; empty where it is not known."""
        return self._digests.get(base.casefold(), "") if base else ""

    def look_up(
        self, model: Model, on_problem: Callable[[str], None], progress: Progress | None = None
    ) -> str:
        """Return the digest of a base that is on this machine and was not scanned; empty where it is not.

        Parameters
        ----------
        model : Model
            With `base`.
        on_problem : callable
            Told in one line when the base is here and can't be read.
        progress : callable, optional
            Told that the base is read.
        """
        path = Path(model.base)
        if not path.is_absolute() and path.exists():
            return ""  # a hub id that is a folder's name too: that folder need not be the base
        try:
            digest = digest_of(
                resolve(model.base), self._memory.parent, offline=True, progress=progress
            ).digest
        except LLMOpsError as error:
            if path.exists():
                on_problem(f"The base of {model.name} can't be read: {reason(error)}")
            return ""
        self._digests[model.base.casefold()] = digest
        return digest
