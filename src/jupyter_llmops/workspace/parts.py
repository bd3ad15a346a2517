"""The parts of a workspace, wired; each is built when it is first used, as some are heavy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import CatalogError, ModelNotAvailableError, UnknownNameError
from jupyter_llmops.location import Location
from jupyter_llmops.settings import LLMOps, cache_folder, private_catalog, user_folder, user_name
from jupyter_llmops.workspace.own_models import are_one, with_own_aliases

if TYPE_CHECKING:
    from jupyter_llmops.agent.doorbell import Doorbell
    from jupyter_llmops.agent.process import AgentStarter
    from jupyter_llmops.audit.cells import CellStamper
    from jupyter_llmops.audit.journal import Journal
    from jupyter_llmops.cache.exact import ExactCache
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.guard.redaction import Redactor
    from jupyter_llmops.inference.encoder import Encoder
    from jupyter_llmops.inference.endpoints.policy import EndpointOptions
    from jupyter_llmops.inference.engines import Engines
    from jupyter_llmops.inference.remembered import RememberedModels
    from jupyter_llmops.prompting.budget import Budget
    from jupyter_llmops.prompting.pipeline import PromptPipeline
    from jupyter_llmops.prompting.pricing import Pricing
    from jupyter_llmops.records.model import Model

Progress = Callable[[str, float | None], None]


class TrailWarning(UserWarning):
    """Something could not be written to the trail; the notebook goes on."""


class CatalogWarning(UserWarning):
    """The team's catalog could not be read; the notebook goes on without it."""


class Parts:
    """The wired parts.

    Parameters
    ----------
    settings : LLMOps
        The settings in force.
    location : Location, Path or str
        Where the shared catalog lies.
    snapshot : str
        Name of the snapshot that is read in its stead; empty for none.
    """

    def __init__(self, settings: LLMOps, location: Location | Path | str, snapshot: str = "") -> None:
        self.settings = settings
        self.opened_snapshot = snapshot
        self.location = Location.parse(location)
        self.user = user_name()
        self.stamper: CellStamper | None = None
        self._trust_keys()
        settings.observe(self._trust_keys, ["trusted_keys", "require_signed_models", "allow_unsafe_models"])

    def _trust_keys(self, _change: object = None) -> None:
        from jupyter_llmops.inference.signing import trust
        from jupyter_llmops.inference.unsafe import allow

        allow(self.settings.allow_unsafe_models)
        trust(self.settings.trusted_keys, required=self.settings.require_signed_models)
        if "_remembered" in self.__dict__:
            self._remembered.clear()  # what was signed by a key that no longer counts

    @cached_property
    def catalog(self) -> Catalog:
        """The team's catalog."""
        from jupyter_llmops.catalog import Catalog

        return Catalog(self.location, site=self.settings.site, user=self.user, snapshot=self.opened_snapshot)

    @cached_property
    def own(self) -> Catalog:
        """The user's private catalog; the very same object where the team's is that one."""
        from jupyter_llmops.catalog import Catalog

        place = private_catalog()
        if place == self.location:
            return self.catalog
        return Catalog(place, site=self.settings.site, user=self.user)

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
            context={"user": self.user, "host": self.settings.site, "catalog": str(self.location)},
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

        return AgentStarter(
            self.location,
            self.audit_folder,
            site=self.settings.site,
            retention=self.settings.retention,
            cache_limits=(self.settings.cache_limit, self.settings.cache_age),
            witness=self.settings.witness,
            retain=self.settings.retain,
        )

    @cached_property
    def engine(self) -> Engines:
        """Computes answers, here or where the model is."""
        from jupyter_llmops.inference.engines import Engines

        engine = Engines(
            self.models_folder,
            offline=self.settings.stay_offline(),
            endpoint_options=self._endpoint_options,
        )
        self.settings.observe(
            lambda _: setattr(engine, "offline", self.settings.stay_offline()), "offline"
        )  # %config LLMOps.offline = True
        return engine

    def _endpoint_options(self) -> EndpointOptions:
        from jupyter_llmops.inference.endpoints.policy import EndpointOptions

        return EndpointOptions(self.settings.endpoint_limits, tuple(self.settings.http_endpoints))

    @cached_property
    def cache(self) -> ExactCache:
        """Answers of identical requests."""
        from jupyter_llmops.cache.exact import ExactCache
        from jupyter_llmops.keys.team import team_key

        cache = ExactCache(self.cache_folder, key=lambda: team_key(str(self.location)))
        cache.enabled = self.settings.cache
        self.settings.observe(lambda change: setattr(cache, "enabled", change["new"]), "cache")
        return cache

    @cached_property
    def pipeline(self) -> PromptPipeline:
        """The way every prompt takes."""
        from jupyter_llmops.inference.grades import Grades
        from jupyter_llmops.prompting.pipeline import PromptPipeline

        return PromptPipeline(
            engine=self.engine,
            cache=self.cache,
            resolve=self.model,
            find_secrets=lambda text: self.redactor.redact(text).found,
            learn_secret=self.redactor.learn,
            stamp=self.stamp,
            price=self.pricing.cost,
            grade=Grades(user_folder()).grade_of,
            budget=self.spending,
        )

    @cached_property
    def pricing(self) -> Pricing:
        """What answers cost."""
        from jupyter_llmops.inference.endpoints.address import base_of
        from jupyter_llmops.prompting.pricing import Pricing

        settings = self.settings
        return Pricing(
            lambda: settings.price_per_hour,
            lambda: settings.price_per_million_tokens,
            lambda: settings.currency,
            self._device_names,
            lambda name: base_of(name, self.model, self.settings.http_endpoints),
        )

    @cached_property
    def spending(self) -> Budget:
        """What was spent, and the limit on it."""
        from jupyter_llmops.prompting.budget import Budget

        return Budget(user_folder() / "spending", self.pricing.estimate, self.settings.currency)

    def _device_names(self, device: str) -> tuple[str, ...]:
        """Return the names under which a device may have a price, best first."""
        if device != "cuda":
            return (device, self.settings.site)
        import torch  # loaded already: it has just computed there

        return (torch.cuda.get_device_name(), self.settings.site, device)

    @property
    def folder(self) -> Path:
        """The catalog's folder.

        Raises
        ------
        CatalogError
            It lies in a bucket.
        """
        return self.catalog.folder

    @property
    def cache_folder(self) -> Path:
        """Where answers are kept: in the catalog's folder for all, of a bucket's for this user alone."""
        return cache_folder(self.location)

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
            fields=self.place() | fields,
            content=content,
        )
        self.announce("runs")
        return run_id

    def place(self) -> dict[str, Any]:
        """Return what a leaf says of where it was stamped: the notebook, where it is known."""
        from jupyter_llmops.audit.actor import notebook_of

        if self.stamper is None:
            return {}
        told = self.stamper.notebook
        notebook = notebook_of(self.stamper.shell.user_ns) if told is None else told
        return {"notebook": notebook} if notebook else {}

    def announce(self, topic: str) -> None:
        """Tell the Jupyter server of a change, and see to it that an agent runs."""
        self.doorbell.ring(topic)
        # Also beside a server, as it may not have our extension; where it has, its agent holds the lock.
        if topic == "runs" and self.settings.agent == "auto":
            self.agent.nudge()

    def model(self, name: str) -> Model:
        """Return the model that a name or an alias means now, with the digest of its files.

        Raises
        ------
        UnknownNameError
            There is none; the error names the nearest.
        """
        from jupyter_llmops.inference.adapters import with_base

        catalogs = self._model_marks()
        remembered = self._remembered.get(name, catalogs)
        if remembered is not None:
            return remembered
        model = with_base(self._find_model(name), self._find_model, self.catalog_models)
        if catalogs is not None:
            self._remembered.put(name, model, catalogs)
        return model

    def _find_model(self, name: str) -> Model:
        from jupyter_llmops.inference.sources import resolve

        try:
            found = resolve(name, self.catalog_models)
        except UnknownNameError:
            from jupyter_llmops.inference.endpoints.pool import is_pool, pool_of

            if not is_pool(name):
                raise
            return pool_of(name, self.model)
        try:
            return self._at_hand(found)
        except ModelNotAvailableError:
            # A default model may lie here all the same: pulled from the team's storage.
            row = next((row for row in self.catalog_models() if row.name == found.name), found)
            if row == found:
                raise
            return self._at_hand(row)

    def _model_marks(self) -> tuple[int, ...] | None:
        """Return numbers that differ whenever a name may mean another model; None where they cost a request."""
        if not self.location.is_local:
            return None
        catalogs = (self.catalog,) if self.own is self.catalog else (self.catalog, self.own)
        return tuple(catalog.mark(table) for catalog in catalogs for table in ("models", "places", "changes"))

    @cached_property
    def _remembered(self) -> RememberedModels:
        from jupyter_llmops.inference.remembered import RememberedModels

        return RememberedModels()

    def _at_hand(self, model: Model, progress: Progress | None = None) -> Model:
        from jupyter_llmops.inference.at_hand import at_hand

        return at_hand(
            model,
            self.models_folder,
            site=self.settings.site,
            offline=self.settings.stay_offline(),
            progress=progress,
        )

    def catalog_models(self) -> list[Model]:
        """Return the models of the user's own catalog, then the team's, as they are now; also retired ones.

        Where the team's can't be read a warning says so, and the rest goes on.
        """
        if self.own is self.catalog:
            return self.catalog.models.current()
        try:
            team = self.catalog.models.current()
        except CatalogError as error:
            warnings.warn(f"The team's models are not looked at: {error}", CatalogWarning, stacklevel=2)
            team = []
        own = self.own.models.current()
        mine = [
            replace(model, private=True)
            for model in own
            if not any(are_one(model, theirs) for theirs in team)
        ]
        return [*mine, *with_own_aliases(team, own)]
