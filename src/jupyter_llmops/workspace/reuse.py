"""Reuse among people: the team's key, answers that are wrong, and functions whose values are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.records.cache import WrongMark
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

    def _request_of(self, run: object) -> InferenceRequest | None:
        if run == "":
            return None
        from jupyter_llmops.reproduce.record import recorded_prompt

        found = self.run(run, kind="prompt")
        return recorded_prompt(found, self.content(found)).request
