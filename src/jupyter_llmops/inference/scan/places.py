"""Everything that finds and describes models: `scan`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.credentials import check_reference
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.scan.finding import describe, find, size_of
from jupyter_llmops.inference.scan.hub_cache import Found, find_in_hub_cache
from jupyter_llmops.inference.scan.lineage import Lineage
from jupyter_llmops.inference.scan.packages import find_in_packages
from jupyter_llmops.inference.scan.reading import NotAModelError, Reading, one_line, reason, slug
from jupyter_llmops.inference.signing import verify_signature
from jupyter_llmops.inference.sites import site_of
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model

_DEFAULT_PLACES = ("packages", "hf")
Problem = Callable[[str], None]


def scan(
    places: Sequence[str] = (),
    *,
    site: str,
    models_folder: Path,
    credential: str = "",
    known: Iterable[Model] = (),
    progress: Progress | None = None,
    on_problem: Problem | None = None,
) -> Iterator[Model]:
    """Yield every model at some places, described from its files; none is run, loaded or unpickled.

    Parameters
    ----------
    places : sequence of str
        A folder or file; ``hf`` (the Hugging Face cache) or ``hf:PATH``; ``packages`` (installed Python
        packages); ``https://host/v1`` (an OpenAI-compatible endpoint); ``mlflow:URI`` (a model registry:
        ``sqlite:///…``, ``https://…``, a folder). None means ``packages`` and ``hf``.
    site : str
        The host or site that the models are at.
    models_folder : Path
        Its ``digests`` folder remembers the digests of files, so that gigabytes are read once.
    credential : str
        Where an endpoint's key is: ``env:NAME`` or ``keyring:SERVICE/USER``.
    known : iterable of Model
        Models of the catalog, among which bases of adapters and fine-tunes are looked up too.
    progress : callable, optional
        Told what is read and how far it is, 0 to 1 by bytes, None where nobody knows.
    on_problem : callable, optional
        Told in one line of each place or model that can't be described; the scan goes on.

    Yields
    ------
    Model
        With a name that is unique in this scan. One whose base is not known yet comes last.

    Raises
    ------
    UsageError
        The credential is no reference to a secret.
    """
    check_reference(credential)
    report = on_problem or (lambda _: None)
    names = _Names()
    lineage = Lineage(known, models_folder / "digests")
    waiting = []
    for model in _described(places or _DEFAULT_PLACES, models_folder, credential, progress, report):
        named = replace(model, name=names.unique(model.name), site=site_of(model, site))
        lineage.learn(named)
        if named.base and not lineage.digest_of(named.base):
            waiting.append(named)
        else:
            yield replace(named, base_digest=named.base_digest or lineage.digest_of(named.base))
    for model in waiting:
        yield replace(
            model, base_digest=lineage.digest_of(model.base) or lineage.look_up(model, report, progress)
        )


def _described(
    places: Sequence[str], models_folder: Path, credential: str, progress: Progress | None, report: Problem
) -> Iterator[Model]:
    remote: list[Iterator[Model]] = []
    local: list[Found] = []
    if progress is not None:
        progress("Looking for models", None)
    for place in places:
        scheme, _, rest = place.partition(":")
        if scheme in {"http", "https"}:
            from jupyter_llmops.inference.scan.endpoint import models_of_endpoint

            remote.append(models_of_endpoint(place, credential))
        elif scheme == "mlflow" and rest:
            from jupyter_llmops.inference.scan.mlflow_registry import models_of_registry

            remote.append(models_of_registry(rest, Reading(models_folder / "digests"), report))
        else:
            local += _found_at(place, report)
    yield from _read(local, models_folder / "digests", progress, report)
    for models in remote:
        if progress is not None:
            progress("Asking for models", None)
        try:
            yield from models
        except LLMOpsError as error:
            report(one_line(error, 600))


def _found_at(place: str, report: Problem) -> list[Found]:
    scheme, _, rest = place.partition(":")
    if scheme == "hf":
        return list(find_in_hub_cache(rest, report))
    if place == "packages":
        return list(find_in_packages(report))
    try:
        path = Path(place).expanduser().resolve()
        if path.is_dir() and any(path.glob("models--*--*")):
            return list(find_in_hub_cache(str(path), report))
        if path.is_dir():
            return [Found(found) for found in find(path, report)]
        if path.is_file():
            return [Found(path)]
    except (OSError, RuntimeError, ValueError) as error:
        report(f"The place {place!r} can't be searched: {reason(error)}")
        return []
    report(
        f"There is nothing at {place!r}; a place is a folder, a file, hf, packages, https://host/v1 or mlflow:URI."
    )
    return []


def _read(local: list[Found], memory: Path, progress: Progress | None, report: Problem) -> Iterator[Model]:
    unique = {found.path: found for found in reversed(local)}
    ordered = list(reversed(unique.values()))
    sizes = [size_of(found.path) for found in ordered]
    others: list[NotAModelError] = []
    before, total = [0, *itertools.accumulate(sizes)], max(sum(sizes), 1)
    for index, found in enumerate(ordered):
        doing = f"Reading {found.name or found.path.name} ({index + 1} of {len(ordered)})"
        at = _Bytes(doing, before[index], total, progress)
        at.more(0)
        try:
            model = describe(found.path, Reading(memory, at.more))
            signed_by = verify_signature(files_in(found.path), found.name or model.name)
        except NotAModelError as error:
            others.append(error)
            continue
        except LLMOpsError as error:
            report(one_line(error, 600))
            continue
        yield replace(
            model,
            name=found.name or model.name,
            source=found.source or model.source,
            signed_by=signed_by,
        )
    if others:
        report(
            one_line(others[0], 600)
            + (f" {len(others) - 1} more files are no models either." if others[1:] else "")
        )


class _Bytes:
    """Turns bytes that were read into progress."""

    def __init__(self, doing: str, before: int, total: int, progress: Progress | None) -> None:
        self._doing, self._read, self._total, self._progress = doing, before, total, progress

    def more(self, size: int) -> None:
        self._read += size
        if self._progress is not None:
            self._progress(self._doing, min(self._read / self._total, 1.0))


class _Names:
    """Keeps the names of one scan apart, also those that differ only by case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, wanted: str) -> str:
        wanted = slug(wanted)
        numbered = (f"{wanted}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([wanted], numbered) if name not in self._taken)
        self._taken.add(name)
        return name
