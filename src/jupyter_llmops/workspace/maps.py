"""Maps: one prompt for every row of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Unpack

from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace.parts import Progress
from jupyter_llmops.workspace.prompt_options import PromptOptions, SaveOptions
from jupyter_llmops.workspace.prompts import Prompts

if TYPE_CHECKING:
    from jupyter_llmops.inference.backends.backend import Backend
    from jupyter_llmops.inference.engine import OnDone
    from jupyter_llmops.prompting.draft import PromptDraft
    from jupyter_llmops.prompting.unfinished import UnfinishedMaps
    from jupyter_llmops.records.map import MapResult, MapRow
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.prompt import Prompt
    from jupyter_llmops.records.prompting import DryRun
    from jupyter_llmops.records.request import InferenceRequest
    from jupyter_llmops.workspace.map_columns import MapColumns

KERNEL = "kernel"
MOST_RETRIES = 100


class Maps(Prompts):
    """What a workspace does with a prompt for many rows."""

    def map(
        self,
        template: str,
        rows: object,
        *,
        column: str = "",
        replace: bool = False,
        retry: int = 0,
        use_cache: bool = True,
        save_as: str = "",
        description: str = "",
        tags: Iterable[str] = (),
        private: bool = False,
        on_saved: Callable[[Prompt, bool], None] | None = None,
        on_row: Callable[[MapRow], None] | None = None,
        on_stopped: Callable[[MapResult], None] | None = None,
        progress: Progress | None = None,
        **options: Unpack[PromptOptions],
    ) -> MapResult:
        """Answer a prompt for each row: from the cache, from an equal row, or in batches by the model.

        Parameters
        ----------
        template : str
            Jinja2 source; a row's columns, keys or fields are its variables, and the whole row is
            ``{{ row }}`` (a text or a number has no other name).
        rows : object
            A data frame, a series, or any iterable of dicts, records or texts; see `read_rows`.
        column : str
            Adds the answers to the data frame `rows` as this column; a row without an answer has None.
            Without it the data frame stays as it is.
        replace : bool
            Whether `column` may exist already. One that a map has written, and nobody changed since,
            may always.
        retry : int
            How often a row that failed is tried again, 0 to 100.
        use_cache : bool
            False neither reads nor writes the cache.
        save_as, description, tags, private, on_saved
            As in `prompt`.
        on_row : callable, optional
            Gets each `MapRow` as it is done, in any order.
        on_stopped : callable, optional
            Gets the `MapResult` so far where the map ends before its last row.
        progress : callable, optional
            Gets rows, rate, time left and money in a sentence, and how much is done, 0 to 1; at most ten
            times a second.
        **options
            See `PromptOptions`; `backend` says where it is computed.

        Returns
        -------
        MapResult
            One `MapRow` a row, in their order. A failure is a value of its row.

        Raises
        ------
        Interrupted
            Ctrl-C; what is done is kept, and the same call goes on from there.
        LLMOpsError
            Nothing can be computed at all; see ``jupyter_llmops.errors``.
        """
        from dataclasses import replace as with_notes

        from jupyter_llmops.prompting.map import MapRun
        from jupyter_llmops.prompting.map_job import MapJob
        from jupyter_llmops.prompting.rows import ROW, read_rows

        _check_retry(retry)
        draft = self._draft(template, options, private=private or not save_as, progress=progress)
        table = read_rows(rows)
        if column or replace:
            self._map_columns.check(rows, column, replace=replace, reads=_needs(draft))
        if save_as:
            said: SaveOptions = {"description": description, "tags": tags, "private": private}
            draft = self._saved_draft(save_as, draft, said, options, on_saved)
        places = _Places(self, draft.backend)
        if len(table) > 1 and not {ROW, *table.names}.intersection(_needs(draft)):
            columns = ", ".join(table.names) or ROW
            places.notes += (
                f"The template reads nothing of a row, so all rows ask the same; there is {columns}.",
            )
        job = MapJob(draft, table, places.compute, use_cache, retry, draft.backend or KERNEL)
        run = MapRun(
            self.pipeline,
            self.cache,
            self.stamp,
            self._unfinished_maps,
            job,
            on_row=on_row,
            progress=progress,
        )
        try:
            result = run.run()
        except BaseException:
            so_far = run.result()
            if column:
                self._map_columns.write(rows, column, so_far.values)
            if on_stopped:
                on_stopped(so_far)
            raise
        finally:
            places.close()
        if column:
            self._map_columns.write(rows, column, result.values)
        return with_notes(result, notes=places.notes) if places.notes else result

    def dry_run_map(
        self, template: str, rows: object, *, use_cache: bool = True, **options: Unpack[PromptOptions]
    ) -> DryRun | None:
        """Return what `map` would send for the first row, None where there are no rows."""
        from dataclasses import replace

        from jupyter_llmops.prompting.rows import read_rows

        draft, table = self._draft(template, options), read_rows(rows)
        if not table:
            return None
        first = replace(draft, variables=table.variables(0, draft.variables))
        return self.pipeline.dry_run(self.pipeline.prepare(first), use_cache=use_cache)

    def _saved_draft(
        self,
        name: str,
        draft: PromptDraft,
        said: SaveOptions,
        options: PromptOptions,
        on_saved: Callable[[Prompt, bool], None] | None,
    ) -> PromptDraft:
        from dataclasses import replace

        saved, is_new = self._save_prompt(name, draft.template, said, options)
        if on_saved:
            on_saved(saved, is_new)
        return replace(draft, saved=saved, alias="")

    @cached_property
    def _unfinished_maps(self) -> UnfinishedMaps:
        from jupyter_llmops.prompting.unfinished import UnfinishedMaps

        return UnfinishedMaps()

    @cached_property
    def _map_columns(self) -> MapColumns:
        from jupyter_llmops.workspace.map_columns import MapColumns

        return MapColumns()


class _Places:
    """Where a map is computed; opened by the first row that no cache has."""

    def __init__(self, workspace: Maps, backend: str) -> None:
        from jupyter_llmops.inference.backends import is_backend, open_backend

        self._workspace = workspace
        self.notes: tuple[str, ...] = ()
        self._backend: Backend | None = None
        if backend and backend != KERNEL and is_backend(backend):
            self._backend = open_backend(
                backend,
                models_folder=workspace.models_folder,
                offline=workspace.settings.stay_offline(),
                engines=workspace.engine,
            )

    def compute(
        self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone, progress: Progress
    ) -> None:
        """Compute requests in this process, or on the backend's workers."""
        if self._backend is not None:
            self._backend.run(requests, model, on_done)
            self.notes += tuple(note for note in self._backend.notes if note not in self.notes)
            return
        engine = self._workspace.engine
        engine.load(model, requests[0].quantization, progress, exact=requests[0].exact)
        engine.generate_many(requests, model, on_done)

    def close(self) -> None:
        """End what was started."""
        if self._backend is not None:
            self._backend.close()


def _needs(draft: PromptDraft) -> tuple[str, ...]:
    from jupyter_llmops.prompting.messages import needs_of

    return needs_of(draft.template, draft.system, draft.declarations, draft.load).variables


def _check_retry(retry: object) -> None:
    if type(retry) is not int or not 0 <= retry <= MOST_RETRIES:
        raise UsageError(
            f"{retry!r} is not a number of retries.", f"Give a whole number from 0 to {MOST_RETRIES}."
        )
