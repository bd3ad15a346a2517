"""Reuse among people: the team's key, answers that are wrong, and functions whose values are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.cache.functions import FunctionCache
    from jupyter_llmops.records.cache import CacheLimits, CacheStats, WrongMark
    from jupyter_llmops.records.request import InferenceRequest


class Reuse(Trail):
    """What a workspace says of reuse."""

    def invite(self, file: str | Path) -> Path:
        """Write the team's key into a new file, which only this user can read, to be handed over.

        Whoever has the key can read, write and reuse what the team caches. Hand it over on a way that you
        trust; it is never shown.

        Parameters
        ----------
        file : str or Path
            A file that is not there yet, outside of the catalog.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        TeamKeyError
            The file is there already, lies in the catalog, or can't be written.
        """
        from jupyter_llmops.keys.team import invite
        from jupyter_llmops.settings import expand

        path = expand(str(file))
        invite(str(self.location), path, inside=self.location.folder)
        return path

    def join(self, file: str | Path) -> Path | None:
        """Take the team's key from a file that a member made with `invite`.

        What this user cached under another key stays where it is; that key is kept beside the new one.

        Parameters
        ----------
        file : str or Path
            What `invite` wrote.

        Returns
        -------
        Path or None
            Where the former key lies now; None where it was the same.

        Raises
        ------
        TeamKeyError
            The file holds no key, or the key can't be kept.
        """
        from jupyter_llmops.keys.team import join
        from jupyter_llmops.settings import expand

        _, former = join(str(self.location), expand(str(file)))
        self.cache.reopen_key()
        return former

    def mark_wrong(self, run: object = "", *, why: str = "") -> WrongMark:
        """Mark an answer as wrong for everyone: it is never served again, and nor is the same computed anew stored.

        Parameters
        ----------
        run : str, int or Completion
            The prompt's run, as in `run`; by default the last answer that the cache gave or took.
        why : str
            For the others.

        Raises
        ------
        UsageError
            There is no such stored answer.
        """
        return self.cache.mark_wrong(why, self._request_of(run))

    def mark_right(self, run: object = "") -> WrongMark:
        """Take back what `mark_wrong` said.

        Parameters
        ----------
        run : str, int or Completion
            As for `mark_wrong`.

        Raises
        ------
        UsageError
            No answer to it is marked.
        """
        return self.cache.mark_right(self._request_of(run))

    def cache_stats(self) -> CacheStats:
        """Return this session's hits and misses, what lies on disk, and what may lie there."""
        from dataclasses import replace

        return replace(self.cache.stats(), limits=self.cache_limits())

    def cache_limits(self) -> CacheLimits:
        """Return what the cache may hold: what was set for its folder, else the settings."""
        from jupyter_llmops.cache.limits import limits_of, read_limits

        return read_limits(self.cache_folder, limits_of(self.settings.cache_limit, self.settings.cache_age))

    def limit_cache(self, size: str | None = None, age: str | None = None) -> CacheLimits:
        """Limit the cache for everyone who uses its folder; the agent keeps to it within a minute or two.

        Parameters
        ----------
        size : str, optional
            Most bytes of all answers, e.g. "5GB"; "off" for no limit; as it was by default.
        age : str, optional
            Longest time since an answer was stored, e.g. "30d"; "off" for no limit; as it was by default.

        Raises
        ------
        SettingsError
            One of them can't be read, or the folder can't be written.
        """
        from jupyter_llmops.cache.limits import write_limits
        from jupyter_llmops.records.cache import CacheLimits
        from jupyter_llmops.settings import parse_age, parse_size

        now = self.cache_limits()
        limits = CacheLimits(
            now.size_bytes if size is None else parse_size(size),
            now.age_seconds if age is None else parse_age(age),
        )
        write_limits(self.cache_folder, limits)
        if self.settings.agent == "off":  # nobody else would
            from jupyter_llmops.cache.upkeep import CacheUpkeep

            CacheUpkeep(self.cache_folder, limits).look()
        return limits

    @cached_property
    def kept_values(self) -> FunctionCache:
        """Values of functions and cells, in the folder of the answers."""
        from jupyter_llmops.cache.functions import FunctionCache

        cache = self.cache
        return FunctionCache(cache.store, cache.session, lambda: cache.enabled, self._secrets_of)

    def take_kept(self) -> tuple[str, ...]:
        """Return the stored values of functions and cells that were kept or given since the last call."""
        kept: FunctionCache | None = self.__dict__.get("kept_values")
        return kept.take_used() if kept is not None else ()

    def _secrets_of(self, value: object) -> tuple[str, ...]:
        """Return the kinds of secrets that a value seems to hold, by what it holds and by its names."""
        from jupyter_llmops.cache.value_texts import texts_in

        for name, item in value.items() if isinstance(value, dict) else ():
            if isinstance(name, str):
                self.redactor.learn(name, item)
        return tuple({kind: None for text in texts_in(value) for kind in self.redactor.redact(text).found})

    def cached(
        self,
        function: Callable[..., Any] | None = None,
        *,
        version: str | None = None,
        ignore: Iterable[str] = (),
    ) -> Any:
        """Let a function compute each value once, for everyone who has the team's key.

        The value is given again for the same arguments, the same code of the function, of what it calls of yours, of
        what else it reads, and the same versions of the packages behind these; what it does beside
        returning a value (printing, writing files) is not done again, and what it reads from files or the
        network is no part of the key: give that as an argument, or name it in `version`. Kept are None, numbers, texts, bytes,
        NumPy arrays, pandas data frames and series, and lists, tuples and dicts of these: as closed JSON, npy and
        Arrow, never as a pickle. With another value or argument the function runs as always, and says so once.

        Parameters
        ----------
        function : callable, optional
            The function; without it a decorator is returned.
        version : str, optional
            Stands for what the function reads and, of a function of a module, for its code: the same version is
            the same function, however that changed. Of a function of the notebook its own code still counts.
        ignore : iterable of str
            Arguments that don't change the value, e.g. ``verbose``.

        Raises
        ------
        UsageError
            It is no function that returns a value, or has no such arguments.
        """
        if function is None:
            return lambda function: self.cached(function, version=version, ignore=ignore)
        if not hasattr(function, "__name__"):
            raise UsageError(f"{function!r} is no function.", "Write @ws.cached above a def.")
        return self.kept_values.decorate(function, version=version, ignore=ignore)

    def _request_of(self, run: object) -> InferenceRequest | None:
        if run == "":
            return None
        from jupyter_llmops.reproduce.record import recorded_prompt

        found = self.run(run, kind="prompt")
        return recorded_prompt(found, self.content(found)).request
