"""Models into the catalog: described from their files, found by a scan, published to the team."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.errors import LLMOpsError, SecretError, UsageError
from jupyter_llmops.workspace.finding import Finding
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.scan import ModelScan, ScannedModel

_CREDENTIAL = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^/\s:@]+/[^/\s:@]+")
_WITH_PASSWORD = re.compile(r"://[^/\s]*@")


class ModelAdding(Finding):
    """How models get into a catalog."""

    def add_model(
        self,
        name: str,
        source: str,
        *,
        private: bool = False,
        base: str = "",
        description: str = "",
        tags: Iterable[str] = (),
        credential: str = "",
        data_digest: str = "",
        license: str = "",
        site: str = "",
        progress: Progress | None = None,
    ) -> Model:
        """Add a model to the catalog under a name.

        Parameters
        ----------
        name : str
            What people will type.
        source : str
            A folder or a file, a hub id ``OWNER/NAME``, a known model's name, or the address of an
            OpenAI-compatible endpoint ``https://host/v1#SERVED-NAME``.
        private : bool
            Into the user's own catalog; `publish_model` shares it later.
        base : str
            The model that it was made from.
        description, license : str
            For people; the licence as an SPDX identifier.
        tags : iterable of str
            For people.
        credential : str
            Where its secret is, never the secret: ``env:NAME`` or ``keyring:SERVICE/USER``.
        data_digest : str
            Digest of the data that it was trained on.
        site : str
            Where an endpoint computes, for ``--site``; its host by default.
        progress : callable, optional
            Told what is read.

        Raises
        ------
        UsageError
            The name is taken by other files, or a value is not valid.
        SecretError
            A text seems to hold a secret.
        """
        from jupyter_llmops.catalog.names import check_name
        from jupyter_llmops.inference.sites import site_of

        check_name("model", name)  # before gigabytes are read
        tags = tuple(tags)
        self._check_words(name, source, description, base, data_digest, license, site, *tags)
        self._check_credential(credential)
        found = self._described(source, progress)
        self._refuse_default_name(name, found, source)
        if base and not found.base_digest:
            found = replace(found, base_digest=self._digest_of_base(base))
        added = self._catalog_for(private=private).models.add(
            replace(
                found,
                name=name,
                aliases=(),
                places=(),
                site=site.strip() or site_of(found, self.settings.site),
                created_by=self.user,
                created_at=datetime.now(UTC),
                base=base or found.base,
                description=description or found.description,
                tags=(*found.tags, *tags),
                credential=credential,
                data_digest=data_digest or found.data_digest,
                license=license or found.license,
            )
        )
        self.doorbell.ring("models")
        return replace(added, private=private and self.own is not self.catalog)

    def scan_models(
        self,
        places: Sequence[str] = (),
        *,
        private: bool = False,
        dry_run: bool = False,
        credential: str = "",
        progress: Progress | None = None,
    ) -> ModelScan:
        """Find models without running any, and register those that are new.

        Files that the catalog knows under any name only get this place added.

        Parameters
        ----------
        places : sequence of str
            Folders, files, ``hf``, ``packages``, ``https://host/v1``, ``mlflow:URI``; none means the
            installed packages and the Hugging Face cache.
        private : bool
            Into the user's own catalog.
        dry_run : bool
            Registers nothing.
        credential : str
            Where an endpoint's key is: ``env:NAME`` or ``keyring:SERVICE/USER``.
        progress : callable, optional
            Told what is read and how far it is.
        """
        from jupyter_llmops.inference.scan import scan
        from jupyter_llmops.records.scan import ModelScan, ScannedModel

        self._check_words(*places)
        self._check_credential(credential)
        problems: list[str] = []
        found: list[ScannedModel] = []
        catalog = self._catalog_for(private=private)
        models = scan(
            places,
            site=self.settings.site,
            models_folder=self.models_folder,
            credential=credential,
            known=self.catalog_models(),
            progress=progress,
            on_problem=problems.append,
        )
        for model in models:
            try:
                found.append(ScannedModel(model, "found") if dry_run else self._register(catalog, model))
            except (UsageError, SecretError) as error:
                problems.append(f"{model.name}: {error}")
        if not dry_run and found:
            self.doorbell.ring("models")
        return ModelScan(tuple(found), tuple(problems))

    def publish_model(self, name: str) -> Model:
        """Copy a model of the user's own catalog to the team's, with what is said of it.

        Raises
        ------
        UsageError
            It is the team's already, or the team has other files under that name.
        """
        if self.own is self.catalog:
            raise UsageError(
                "This catalog is yours alone, so there is no team to publish to.",
                "Set LLMOPS_CATALOG, or the setting LLMOps.catalog, to the team's.",
            )
        found = [model for model in self.own.models.current() if name == model.name or name in model.aliases]
        if not found:
            model = self.named_model(name)
            raise UsageError(
                f"The model {model.name!r} is not a private one.", "%models lists yours as (yours)."
            )
        model = found[0]
        self._refuse_default_name(model.name, model, model.source)
        published = self.catalog.models.add(replace(model, private=False))
        for place in model.places[1:]:
            self.catalog.models.add_place(model.name, place.source, site=place.site)
        self.doorbell.ring("models")
        return self.catalog.models.get(published.name)

    def named_model(self, name: str) -> Model:
        """Return the model that a name or alias means, without reading its files."""
        from jupyter_llmops.inference.sources import resolve

        found = resolve(name, self.catalog_models)
        # A default model that was registered has its row's digest, aliases and places.
        return next((row for row in self.catalog_models() if row.name == found.name), found)

    def registered_model(self, name: str) -> tuple[Model, Catalog]:
        """Return a model that has a row, and its catalog; a default model is registered where it has none."""
        model = self.named_model(name)
        if model.created_at is not None:
            return model, self.own if model.private else self.catalog
        from jupyter_llmops.inference.sources import known_models

        if model.name not in {default.name for default in known_models()}:
            raise UsageError(f"{name!r} is not in the catalog yet.", f"Type %models add NAME {name} first.")
        return self.add_model(model.name, model.name), self.catalog

    # -- within -------------------------------------------------------------------------------

    def _catalog_for(self, *, private: bool) -> Catalog:
        return self.own if private else self.catalog

    def _register(self, catalog: Catalog, model: Model) -> ScannedModel:
        from jupyter_llmops.records.scan import ScannedModel

        self._check_words(model.name, model.description, model.source)
        # What is the user's alone stays so: a scan of its folder does not share it.
        listed = self.catalog_models()
        same = [row for row in listed if model.digest and row.digest == model.digest]
        same = same or [row for row in listed if not model.digest and row.source == model.source]
        if same:
            row = same[0]
            place = (model.site, model.source)
            if not model.digest or place in {(place.site, place.source) for place in row.places}:
                return ScannedModel(row, "known")
            holder = self.own if row.private else self.catalog
            placed = holder.models.add_place(row.name, model.source, site=model.site)
            return ScannedModel(replace(placed, private=row.private), "place added")
        added = catalog.models.add(replace(model, name=_free_name(model, listed), created_by=self.user))
        return ScannedModel(added, "new")

    def _described(self, source: str, progress: Progress | None) -> Model:
        """Return what lies at a source, with the digest and list of its files."""
        from jupyter_llmops.inference.at_hand import at_hand
        from jupyter_llmops.inference.scan import Reading, describe
        from jupyter_llmops.inference.scan.finding import size_of
        from jupyter_llmops.inference.sources import locate, resolve
        from jupyter_llmops.inference.transfer import Meter

        endpoint = _endpoint(source)
        if endpoint is not None:
            return endpoint
        memory = self.models_folder / "digests"
        path = Path(source).expanduser() if not source.startswith("~") or "/" in source else Path(source)
        if path.exists():
            path = path.resolve()
            return describe(path, Reading(memory, Meter(f"Reading {path.name}", size_of(path), progress).add))
        if source.startswith(("/", "./", "../", "~/")) or source.endswith("/"):
            raise UsageError(
                f"There is no folder or file {source!r}.",
                "Type %models add NAME FOLDER, OWNER/NAME for one of the Hugging Face hub, or https://host/v1#MODEL.",
            )
        offline = self.settings.stay_offline()
        found = resolve(source, self.catalog_models)
        found = at_hand(
            found, self.models_folder, site=self.settings.site, offline=offline, progress=progress
        )
        try:
            facts = describe(locate(found, offline=True).path, Reading(memory))
        except LLMOpsError:
            return found
        known = {
            field: getattr(found, field) or getattr(facts, field)
            for field in (
                "family",
                "license",
                "parameters",
                "context_length",
                "format",
                "quantizations",
                "base",
            )
        }
        files = facts.files if facts.digest == found.digest else ()
        return replace(found, **known, files=files)

    def _refuse_default_name(self, name: str, found: Model, source: str) -> None:
        from jupyter_llmops.inference.sources import known_models

        for default in known_models():
            if name.strip().casefold() == default.name and found.source != default.source:
                raise UsageError(
                    f"{name!r} is the name of a default model, which would be used in place of {source}.",
                    f"Type %models add my-{default.name} {source}.",
                )

    def _digest_of_base(self, base: str) -> str:
        try:
            return self.named_model(base).digest
        except LLMOpsError:
            return ""  # a base need not be here

    def _check_credential(self, credential: str) -> None:
        if not credential or _CREDENTIAL.fullmatch(credential):
            return
        # Whatever it was, it must not get into the trail.
        self.redactor.learn("credential_secret", credential)
        raise UsageError(
            "A credential is named, never written down: what was typed is not kept.",
            "Type --credential env:NAME for an environment variable, or keyring:SERVICE/USER.",
        )

    def _check_words(self, *texts: str) -> None:
        """Refuse texts that seem to hold a secret, as a catalog is shared."""
        found = sorted({kind for text in texts if text for kind in self.redactor.redact(text).found})
        if not found and any(_WITH_PASSWORD.search(text) for text in texts):
            found = ["password in an address"]
        if found:
            raise SecretError(
                f"Nothing was added: what was typed seems to hold a secret ({', '.join(found)}).",
                "Leave it out; --credential env:NAME says where a secret is.",
            )


def _free_name(model: Model, listed: Iterable[Model]) -> str:
    """Return a name that no model or alias has: the model's own, or that with a number.

    A default model keeps the name that everybody has for it.
    """
    from jupyter_llmops.catalog.names import check_name
    from jupyter_llmops.inference.sources import known_models

    taken = {word.casefold() for row in listed for word in (row.name, *row.aliases)}
    for default in known_models():
        if default.source == model.source:
            return default.name
        taken.add(default.name)
    try:
        name = check_name("model", model.name)
    except UsageError:
        name = check_name("model", f"{model.name.strip(' -@') or 'found'}-model"[:200])
    number = 2
    free = name
    while free.casefold() in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _endpoint(source: str) -> Model | None:
    """Return the row of an endpoint or of a model of a registry, which is not asked; None for anything else."""
    from jupyter_llmops.records.model import Model

    if source.startswith("mlflow:"):
        return Model(name="", kind="classic", source=source, format="mlflow")
    address = source.removeprefix("endpoint:")
    if not address.startswith(("http://", "https://")):
        return None
    url, _, served = address.partition("#")
    if not served or "?" in url or not re.fullmatch(r"https?://[^/\s]+(/\S*)?", url):
        raise UsageError(
            f"{url!r} is not the address of an endpoint with the name of a model.",
            "Type https://host/v1#SERVED-NAME; %models scan https://host/v1 lists what it serves.",
        )
    return Model(name="", kind="llm", source=f"endpoint:{url.rstrip('/')}#{served}", format="endpoint")
