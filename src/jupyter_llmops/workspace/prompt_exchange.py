"""Prompts in and out: a folder of Markdown files, an MLflow registry."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.errors import CatalogError, ConflictError, LLMOpsError, UnknownNameError, UsageError
from jupyter_llmops.records.prompt import Prompt, PromptFile, PromptFiles
from jupyter_llmops.workspace.parts import Progress
from jupyter_llmops.workspace.prompt_sharing import PromptSharing

if TYPE_CHECKING:
    from jupyter_llmops.prompting.markdown import PromptSource
    from jupyter_llmops.prompting.mlflow_prompts import MlflowPrompt, MlflowVersion

MLFLOW = "mlflow:"
# The longest prompt and front matter in UTF-8.
_LARGEST_FILE = 48_000_000
_SECONDS_BETWEEN_WORDS = 0.5


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that is to be imported."""

    file: str
    source: PromptSource
    is_old: bool


class PromptExchange(PromptSharing, ABC):
    """How prompts come into the catalog and out of it."""

    def export_prompts(self, folder: str | Path, names: Iterable[str] = ()) -> PromptFiles:
        """Write prompts into a folder, one Markdown file each; a file that is right already is left alone.

        Parameters
        ----------
        folder : path
            It is made where it does not exist; files of other prompts in it stay.
        names : iterable of str
            All that the team has, by default.

        Raises
        ------
        UsageError
            The folder can't be written.
        UnknownNameError
            There is no prompt of a name.
        """
        from jupyter_llmops.prompting.markdown import file_names, to_markdown

        chosen = [self.saved_prompt(name) for name in names] or [p for p in self.prompts() if not p.private]
        latest = {prompt.name: prompt for prompt in chosen}
        pinned, digests = self._pinned(chosen)
        older = {
            key: replace(prompt, description="", tags=(), examples=())
            for key, prompt in pinned.items()
            if prompt.name not in latest or latest[prompt.name].version != prompt.version
        }
        numbered = {prompt.name for prompt in pinned.values()}
        written = {**latest, **older}
        files = file_names(written)
        place = Path(folder).expanduser()
        try:
            place.mkdir(parents=True, exist_ok=True)
            results = [
                _write_file(
                    place / files[key],
                    prompt,
                    to_markdown(
                        prompt,
                        with_version=prompt.name in numbered,
                        includes={reference: digests[reference] for reference in prompt.includes},
                    ),
                )
                for key, prompt in sorted(written.items())
            ]
        except OSError as error:
            raise UsageError(
                f"{place} can't be written: {error.strerror or error}.", "Type %prompts export FOLDER."
            ) from error
        return PromptFiles(str(place), tuple(results))

    def import_prompts(
        self, source: str | Path, *, private: bool = False, progress: Progress | None = None
    ) -> PromptFiles:
        """Save the prompts of a folder of Markdown files, or of an MLflow registry.

        What has a problem is left out whole and told with its line; the rest is saved.

        Parameters
        ----------
        source : path or str
            A folder, or ``mlflow:`` and the URI of a registry, e.g. ``mlflow:sqlite:///mlflow.db``.
        private : bool
            Whether they go into this user's own catalog.
        progress : callable, optional
            Gets a sentence and how far it is.

        Raises
        ------
        UsageError
            There is no such folder.
        CatalogError
            The catalog can't be written.
        MissingDependencyError
            MLflow is not installed.
        """
        if str(source).startswith(MLFLOW):
            return self._import_mlflow(str(source).removeprefix(MLFLOW), private=private, progress=progress)
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise UsageError(f"There is no folder {str(source)!r}.", "Type %prompts import FOLDER.")
        waiting, results = _read_folder(folder)
        told, done, total = time.monotonic(), 0, len(waiting)
        # A prompt comes after those that it includes: what misses one is tried again after the others.
        while waiting:
            left: list[tuple[_Waiting, LLMOpsError]] = []
            for item in waiting:
                try:
                    results.append(self._import_file(item, private=private))
                except UnknownNameError as error:
                    left.append((item, error))
                except LLMOpsError as error:
                    _raise_if_nothing_can_be_saved(error)
                    results.append(_problem(item, error))
                done += 1
                if progress and time.monotonic() - told > _SECONDS_BETWEEN_WORDS:
                    progress(f"Importing {item.file}", min(1.0, done / total))
                    told = time.monotonic()
            if len(left) == len(waiting):
                results += [_problem(item, error) for item, error in left]
                break
            waiting = [item for item, _ in left]
        return PromptFiles(str(folder), tuple(sorted(results, key=lambda file: file.file)))

    # -- within -------------------------------------------------------------------------------

    def _pinned(self, prompts: Iterable[Prompt]) -> tuple[dict[str, Prompt], dict[str, str]]:
        """Return what prompts include, by ``NAME@VERSION``, and the digests."""
        found: dict[str, Prompt] = {}
        for prompt in prompts:
            load = self._load_included(private=prompt.private)
            found |= {reference: load(reference) for reference in prompt.includes}
        return found, {reference: prompt.digest for reference, prompt in found.items()}

    def _import_file(self, item: _Waiting, *, private: bool) -> PromptFile:
        prompt = item.source.prompt
        where = self.own if private else self.catalog
        known = (
            {p.version: p for p in where.prompts.versions(prompt.name)}
            if prompt.name in where.prompts.names()
            else {}
        )
        load = self._load_included(private=private)
        for reference, digest in item.source.include_digests.items():
            if load(reference).digest != digest:
                raise UsageError(
                    f"it includes {reference}, which is another prompt here.", "Save it under another name."
                )
        if item.is_old and known and max(known) >= prompt.version:
            # The text of an old version must not become the newest.
            same = self._same_content(prompt, known.get(prompt.version))
            if not same:
                raise UsageError(
                    f"{prompt.name}@{prompt.version} is another prompt here.", "Take this file out."
                )
        saved, is_new = self._save_source(prompt, private=private)
        said = known.get(saved.version)
        note = ""
        if said is not None and (said.description, said.tags, said.examples) != (
            saved.description,
            saved.tags,
            saved.examples,
        ):
            note = "described anew"
        outcome = "unchanged" if not is_new else "new version" if known else "new"
        return PromptFile(item.file, saved.name, saved.version, outcome, note)

    def _same_content(self, prompt: Prompt, known: Prompt | None) -> bool:
        return known is not None and (
            prompt.template, prompt.system, prompt.model, prompt.parameters, prompt.declarations
        ) == (known.template, known.system, known.model, known.parameters, known.declarations)  # fmt: skip

    @abstractmethod
    def _save_source(self, prompt: Prompt, *, private: bool) -> tuple[Prompt, bool]:
        """Save a prompt that came from elsewhere; `Prompts` says how."""

    def _import_mlflow(self, uri: str, *, private: bool, progress: Progress | None) -> PromptFiles:
        from jupyter_llmops.prompting.mlflow_prompts import read_prompts

        results: list[PromptFile] = []
        for prompt in read_prompts(uri):
            if progress:
                progress(f"Importing {prompt.name}", None)
            saved: dict[int, Prompt] = {}
            results += [
                self._import_mlflow_version(prompt, version, saved, private=private)
                for version in prompt.versions
            ]
            where = self.own if private else self.catalog
            for version in prompt.versions:
                for alias in version.aliases if version.version in saved else ():
                    with contextlib.suppress(UsageError):  # a name that an alias of ours can't have
                        where.prompts.promote(prompt.name, alias, saved[version.version].version)
        self.doorbell.ring("prompts")
        return PromptFiles(f"{MLFLOW}{uri}", tuple(results))

    def _import_mlflow_version(
        self, prompt: MlflowPrompt, version: MlflowVersion, saved: dict[int, Prompt], *, private: bool
    ) -> PromptFile:
        file = f"{prompt.name} version {version.version}"
        if version.problem:
            return PromptFile(file, prompt.name, 0, "problem", version.problem)
        source = Prompt(
            name=prompt.name,
            version=0,
            digest="",
            template=version.template,
            parameters=version.parameters,
            description=prompt.description,
            tags=prompt.tags,
        )
        where = self.own if private else self.catalog
        known = prompt.name in where.prompts.names()
        try:
            taken, is_new = self._save_source(source, private=private)
        except LLMOpsError as error:
            _raise_if_nothing_can_be_saved(error)
            return PromptFile(file, prompt.name, 0, "problem", str(error))
        saved[version.version] = taken
        outcome = "unchanged" if not is_new else "new version" if known else "new"
        return PromptFile(file, taken.name, taken.version, outcome, version.note)


def _read_folder(folder: Path) -> tuple[list[_Waiting], list[PromptFile]]:
    """Return what can be imported of a folder, older versions first, and what became of the rest."""
    from jupyter_llmops.prompting.markdown import from_markdown

    sources: dict[str, PromptSource] = {}
    results: list[PromptFile] = []
    for path in sorted(folder.glob("*.md")):
        try:
            text = _read_file(path)
            if not text.removeprefix("\ufeff").startswith("---"):
                results.append(PromptFile(path.name, "", 0, "skipped", "it has no front matter"))
                continue
            sources[path.name] = from_markdown(text)
        except LLMOpsError as error:
            results.append(PromptFile(path.name, "", 0, "problem", str(error)))
    first: dict[tuple[str, int], str] = {}
    newest: dict[str, int] = {}
    waiting = []
    for file, source in sources.items():
        prompt = source.prompt
        newest[prompt.name] = max(newest.get(prompt.name, 0), prompt.version)
        other = first.setdefault((prompt.name, prompt.version), file)
        if other != file:
            results.append(
                PromptFile(file, prompt.name, 0, "problem", f"{other} is the prompt {prompt.name!r} too.")
            )
            continue
        waiting.append((file, source))
    items = [
        _Waiting(file, source, source.prompt.version < newest[source.prompt.name]) for file, source in waiting
    ]
    return sorted(items, key=lambda item: (item.source.prompt.version or 10**12, item.file)), results


def _read_file(path: Path) -> str:
    try:
        # Not through a link: a folder of a colleague must not reach the files around it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                raise UsageError("It is not a file.")
            if state.st_size > _LARGEST_FILE:
                raise UsageError(f"It has {state.st_size:,} bytes, more than any prompt.")
            return file.read().decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"Line {line}: it is not UTF-8.", "Save the file as UTF-8.") from None
    except OSError as error:
        why = "it is a link" if path.is_symlink() else error.strerror or str(error)
        raise UsageError(f"It can't be read: {why}.") from None


def _raise_if_nothing_can_be_saved(error: LLMOpsError) -> None:
    """Raise what would stop every other file, too: a full disk, a catalog that is read only."""
    if isinstance(error, CatalogError) and not isinstance(error, ConflictError):
        raise error


def _problem(item: _Waiting, error: LLMOpsError) -> PromptFile:
    return PromptFile(item.file, item.source.prompt.name, 0, "problem", " ".join(str(error).split()))


def _write_file(path: Path, prompt: Prompt, text: str) -> PromptFile:
    """Write a prompt's file unless it is right already, or is something else; whole or not at all."""
    from jupyter_llmops.prompting.markdown import from_markdown

    if path.is_symlink() or path.exists():
        try:
            before = _read_file(path)
            if before == text:
                return PromptFile(path.name, prompt.name, prompt.version, "unchanged")
            if from_markdown(before).prompt.name != prompt.name:
                raise UsageError("It is another prompt's file.")
        except LLMOpsError as error:
            return PromptFile(
                path.name, prompt.name, prompt.version, "problem", f"It was not written over: {error}"
            )
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return PromptFile(path.name, prompt.name, prompt.version, "written")
