"""The parts of a workspace, wired; each is built when it is first used, as some are heavy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.settings import LLMOps, user_folder, user_name

if TYPE_CHECKING:
    from jupyter_llmops.agent.doorbell import Doorbell
    from jupyter_llmops.agent.process import AgentStarter
    from jupyter_llmops.audit.cells import CellStamper
    from jupyter_llmops.audit.journal import Journal
    from jupyter_llmops.cache.exact import ExactCache
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.guard.redaction import Redactor
    from jupyter_llmops.inference.encoder import Encoder
    from jupyter_llmops.inference.transformers_engine import TransformersEngine
    from jupyter_llmops.prompting.pipeline import PromptPipeline
    from jupyter_llmops.records.model import Model

Progress = Callable[[str, float | None], None]


class TrailWarning(UserWarning):
    """Something could not be written to the trail; the notebook goes on."""


class Parts:
    """The wired parts.

    Parameters
    ----------
    settings : LLMOps
        The settings in force.
    folder : Path
        Folder of the shared catalog.
    """

    def __init__(self, settings: LLMOps, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.user = user_name()
        self.stamper: CellStamper | None = None

    @cached_property
    def catalog(self) -> Catalog:
        """The shared catalog."""
        from jupyter_llmops.catalog import Catalog

        return Catalog(self.folder, site=self.settings.site, user=self.user)

    @cached_property
    def redactor(self) -> Redactor:
        """Takes secrets out of texts."""
        from jupyter_llmops.guard.redaction import Redactor

        return Redactor()

    @cached_property
    def journal(self) -> Journal:
        """The journal of this session."""
        from jupyter_llmops.audit.journal import Journal

        return Journal(
            self.audit_folder,
            context={"user": self.user, "host": self.settings.site, "catalog": str(self.folder)},
            redact=self.redactor.redact,
            warn=lambda message: warnings.warn(message, TrailWarning, stacklevel=2),
        )

    @cached_property
    def doorbell(self) -> Doorbell:
        """Tells the Jupyter server, where there is one, that something changed."""
        from jupyter_llmops.agent.doorbell import Doorbell

        return Doorbell()

    @cached_property
    def agent(self) -> AgentStarter:
        """Starts the process that carries the journal into the catalog where no server does."""
        from jupyter_llmops.agent.process import AgentStarter

        return AgentStarter(self.folder, self.audit_folder, site=self.settings.site)

    @cached_property
    def engine(self) -> TransformersEngine:
        """Computes answers in this process."""
        from jupyter_llmops.inference.transformers_engine import TransformersEngine

        engine = TransformersEngine(self.models_folder, offline=self.settings.stay_offline())
        self.settings.observe(
            lambda _: setattr(engine, "offline", self.settings.stay_offline()), "offline"
        )  # %config LLMOps.offline = True
        return engine

    @cached_property
    def cache(self) -> ExactCache:
        """Answers of identical requests."""
        from jupyter_llmops.cache.exact import ExactCache

        cache = ExactCache(self.folder / "cache")
        cache.enabled = self.settings.cache
        self.settings.observe(lambda change: setattr(cache, "enabled", change["new"]), "cache")
        return cache

    @cached_property
    def pipeline(self) -> PromptPipeline:
        """The way every prompt takes."""
        from jupyter_llmops.prompting.pipeline import PromptPipeline

        return PromptPipeline(
            engine=self.engine,
            cache=self.cache,
            resolve=self.model,
            find_secrets=lambda text: self.redactor.redact(text).found,
            learn_secret=self.redactor.learn,
            stamp=self.stamp,
        )

    @property
    def audit_folder(self) -> Path:
        """Where this user's journals and contents lie."""
        return user_folder() / "audit"

    @property
    def models_folder(self) -> Path:
        """Where converted models lie."""
        return user_folder() / "models"

    def encoder(self, name: str = "") -> Encoder:
        """Return an embedding model in memory, the one of the settings by default; loaded once a process.

        Raises
        ------
        UnknownNameError
            There is no such model.
        InferenceError
            It is no embedding model.
        """
        from jupyter_llmops.inference.encoder import open_encoder

        model = self.model(name or self.settings.encoder)
        return open_encoder(model, self.models_folder, self.settings.stay_offline())

    def stamp(
        self,
        kind: str,
        *,
        id: str | None = None,
        parent: str = "",
        status: str = "ok",
        started_at: datetime,
        seconds: float,
        fields: dict[str, Any],
        content: dict[str, str],
    ) -> str:
        """Append a leaf to this session's journal, unless stamping is off; never raises."""
        if not self.settings.audit:
            return ""
        run_id = self.journal.stamp(
            kind,
            id=id,
            parent=parent or (self.stamper.current_cell_id() if self.stamper else ""),
            status=status,
            started_at=started_at,
            seconds=seconds,
            fields=fields,
            content=content,
        )
        self.announce("runs")
        return run_id

    def announce(self, topic: str) -> None:
        """Tell the Jupyter server of a change, and see to it that an agent runs."""
        self.doorbell.ring(topic)
        # Also beside a server, as it may not have our extension; where it has, its agent holds the lock.
        if topic == "runs" and self.settings.agent == "auto":
            self.agent.nudge()

    def model(self, name: str) -> Model:
        """Return the model that a name means, with the digest of its files.

        Raises
        ------
        UnknownNameError
            There is none; the error names the nearest.
        """
        from jupyter_llmops.inference.sources import digest_of, resolve

        found = resolve(name, self.catalog.models.list)
        return digest_of(found, self.models_folder, offline=self.settings.stay_offline())
