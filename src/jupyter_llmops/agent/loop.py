"""What the agent does all the time, in a process of its own or in a thread of the Jupyter server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jupyter_llmops.agent.election import Election
from jupyter_llmops.agent.flush import Flusher
from jupyter_llmops.agent.heads import HeadKeeper, own_keys
from jupyter_llmops.agent.own_journal import AgentJournal
from jupyter_llmops.agent.retaining import Retention
from jupyter_llmops.agent.sharing import ContentSharing
from jupyter_llmops.agent.witness import Witness
from jupyter_llmops.cache.upkeep import CacheUpkeep
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AuditError, LLMOpsError, TeamKeyError, UsageError
from jupyter_llmops.keys.signing import LogKeys

POLL_SECONDS = 1.0
# Once nothing came for a minute, looking less often is enough: a doorbell wakes it anyway.
QUIET_POLL_SECONDS = 5.0
QUIET_AFTER_SECONDS = 60.0
# The first run after a pause is carried at once, a burst of them in one commit each half second.
SECONDS_BETWEEN_FLUSHES = 0.5
LONGEST_PAUSE = 60.0
# An agent process leaves a catalog that refused all the time; the next run of a kernel starts another.
GIVE_UP_SECONDS = 3600.0


class AgentLoop:
    """Flushes journals, seals logs, witnesses and keeps the catalog small while it is the elected agent.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Where to.
    maintains : sequence of Catalog
        What it keeps small besides, e.g. the user's own.
    caches : sequence of CacheUpkeep
        What it keeps within its limits.
    keys : callable
        Returns the keys that sign this user's logs and countersign others'.
    witness : bool
        Whether it countersigns.
    retain : str
        How long sessions stay, e.g. "1y"; empty for ever.
    on_flush : callable, optional
        Told how many runs were added, whenever there were any.
    on_problem : callable, optional
        Told in one sentence what can't be done, once until it changes; the loop goes on trying.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        *,
        maintains: Sequence[Catalog] = (),
        caches: Sequence[CacheUpkeep] = (),
        keys: Callable[[], LogKeys] = own_keys,
        witness: bool = True,
        retain: str = "",
        on_flush: Callable[[int], None] | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> None:
        self.election = Election(folder, catalog.location)
        self._flusher = Flusher(folder, catalog)
        self._own = AgentJournal(folder, catalog)
        self._sharing = ContentSharing(folder, catalog, self._own)
        self._retention = Retention(folder, catalog, retain, self._own.stamp)
        self._heads = HeadKeeper(folder, catalog, keys=keys, tell=self._say)
        self._witness = Witness(folder, catalog, keys=keys, tell=self._say) if witness else None
        self._said: set[str] = set()
        self._maintained = (catalog, *maintains)
        self._caches = tuple(caches)
        self._on_flush = on_flush
        self._on_problem = on_problem
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._problem = ""
        self._pause = POLL_SECONDS
        self._active_at = time.monotonic()
        self._flushed_at = 0.0

    def wake(self) -> None:
        """Look at the journals now; any thread may call it."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the step that is under way; any thread may call it."""
        self._stop.set()
        self._wake.set()

    def run(self, idle_seconds: float | None = None) -> None:
        """Do the agent's work whenever this one is elected, until `stop`.

        Parameters
        ----------
        idle_seconds : float, optional
            Return also when no journal changed for so long, or when another agent is elected.
        """
        self._active_at = time.monotonic()
        try:
            while not self._stop.is_set():
                elected = self._elected()
                idle = idle_seconds is not None and self._idle_for() > idle_seconds
                if elected:
                    self.step(closing=idle)
                    idle = idle and self._idle_for() > (idle_seconds or 0.0)
                if idle_seconds is not None and (idle or not elected):
                    self.election.resign()
                    # A journal may have grown since the last look, its kernel having seen an agent.
                    grew = self._flusher.changed()
                    waits = grew or self._heads.waiting
                    if not elected or not waits or self._idle_for() > GIVE_UP_SECONDS:
                        return
                    if grew and not self._problem:
                        continue
                self._wait()
        finally:
            if self.election.holds:
                self.step(closing=True)
                self.election.resign()
            self._own.close()

    def step(self, *, closing: bool = False) -> None:
        """Carry what is new, seal, witness, maintain where it is due; a problem is told, never raised.

        Parameters
        ----------
        closing : bool
            Whether it is the last for now.
        """
        try:
            try:
                self._flush()
            finally:  # it needs no catalog
                self._heads.seal(closing=closing)
            self._flusher.require_catalog()
            self._prove(closing=closing)
            self._sharing.share()
            self._retain()
            self._maintain()
        except LLMOpsError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - the agent must outlive one strange journal
            self._fail(f"The agent could not do its work: {type(error).__name__}: {error}.")
        else:
            self._problem, self._pause = "", POLL_SECONDS

    def _flush(self) -> None:
        if not self._flusher.changed():
            return
        added = self._flusher.flush()
        for sentence in (*self._flusher.conflicts.values(), *self._flusher.lost.values()):
            self._say(sentence)
        self._active_at = self._flushed_at = time.monotonic()
        if added and self._on_flush is not None:
            self._on_flush(added)

    def _prove(self, *, closing: bool) -> None:
        """Publish heads and countersign others'; without keys all else goes on."""
        try:
            self._heads.publish()
            if self._witness is not None:
                self._witness.look(at_once=closing)
        except (TeamKeyError, AuditError, OSError) as error:
            self._say(f"Heads of logs wait here: {error}")

    def _retain(self) -> None:
        """Prune old sessions where a setting says so; what can't be pruned stops nothing else."""
        try:
            pruned = self._retention.look(self._own.session)
        except (AuditError, UsageError, OSError) as error:
            self._say(f"Old sessions stay: {error}")
            return
        if pruned is not None:
            self._say(f"{len(pruned.sessions)} sessions from before {pruned.before:%Y-%m-%d} were pruned.")

    def _say(self, sentence: str) -> None:
        """Tell what concerns one thing only and stops nothing else, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            if self._on_problem is not None:
                self._on_problem(sentence)

    def _maintain(self) -> None:
        failure: LLMOpsError | None = None
        for catalog in self._maintained:
            try:
                catalog.upkeep.look(catalog.marks())
            except LLMOpsError as error:  # the team's may be read only, the user's own never is
                failure = error
        for cache in self._caches:
            cache.look()
        if failure is not None:
            raise failure

    def _elected(self) -> bool:
        try:
            return self.election.win()
        except OSError as error:
            self._tell(f"No agent can be elected in {self.election.path.parent}: {error.strerror or error}.")
            return False

    def _idle_for(self) -> float:
        return time.monotonic() - self._active_at

    def _wait(self) -> None:
        """Wait for a ring or the next poll, and let the runs of a burst come together."""
        if self._problem:
            self._stop.wait(self._pause)
            return
        quiet = self._idle_for() > QUIET_AFTER_SECONDS
        self._wake.wait(QUIET_POLL_SECONDS if quiet else POLL_SECONDS)
        self._wake.clear()
        since = time.monotonic() - self._flushed_at
        if since < SECONDS_BETWEEN_FLUSHES:
            self._stop.wait(SECONDS_BETWEEN_FLUSHES - since)

    def _fail(self, sentence: str) -> None:
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._tell(sentence)

    def _tell(self, sentence: str) -> None:
        if sentence != self._problem:
            self._problem = sentence
            if self._on_problem is not None:
                self._on_problem(sentence)
