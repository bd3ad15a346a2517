"""The registry of models: list, find, add, scan, aliases, words about them, yours and the team's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import LLMOpsError, SecretError, UnknownNameError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.workspace.finding import Finding
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.change import Change
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.scan import ModelScan, ScannedModel

_CREDENTIAL = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^/\s:@]+/[^/\s:@]+")
_WITH_PASSWORD = re.compile(r"://[^/\s]*@")
_ADD_HINT = "Add one with %models add NAME SOURCE, or find those of this machine with %models scan."


class Models(Finding):
    """What a workspace knows of models."""

    def models(self, *, retired: bool = False) -> Listing[Model]:
        """Return every model: the team's, the user's own, and those that are installed as packages.

        Their `speeds` are those of this machine; `show_model` has all.

        Parameters
        ----------
        retired : bool
            True lists what was retired too.
        """
        from jupyter_llmops.inference.sources import known_models

        listed = {model.name: model for model in known_models()}
        for model in reversed(self.catalog_models()):
            listed[model.name] = model
        kept = [model for model in listed.values() if retired or not model.retired]
        measured = self.catalog.models.speeds(host=self.settings.site)
        found = [replace(model, speeds=measured.of(model)) for model in kept]
        return Listing("model", sorted(found, key=lambda m: (m.name.casefold(), m.name)), _ADD_HINT)

    def find_models(self, text: str, progress: Progress | None = None) -> Listing[Model]:
        """Return the models that a text names, then those that are about it, best first.

        Parameters
        ----------
        text : str
            A part of a name, family, kind, licence, source, description or tag; or what it should be for.
        progress : callable, optional
            Told while texts are embedded for the first time.
        """
        listed = {model.name: model for model in self.models()}
        texts = {name: _words_of(model) for name, model in listed.items()}
        wanted = " ".join(text.split()).casefold()
        if not wanted:
            return self.models()
        # What is in the name comes before what is in the words about it.
        named = [name for name in listed if wanted in name.casefold()]
        named += [name for name, words in texts.items() if wanted in words.casefold() and name not in named]
        about = [] if named else self.find_names("model", texts, text, progress)
        found = [listed[name] for name in [*named, *about] if name in listed]
        return Listing("model", found, f"None is like {text!r}; %models lists all.")

    def show_model(self, name: str) -> Model:
        """Return one model with its places, aliases and the speeds that were measured anywhere.

        Raises
        ------
        UnknownNameError
            There is none; the error names the nearest.
        """
        model = self.named_model(name)
        return replace(model, speeds=self.catalog.models.speeds(model=model.name).of(model))

    # -- registering --------------------------------------------------------------------------

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
        progress : callable, optional
            Told what is read.

        Raises
        ------
        UsageError
            The name is taken by other files, or a value is not valid.
        SecretError
            A text seems to hold a secret.
        """
        self._check_words(name, source, description, base, data_digest, license, *tags)
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
                site=self.settings.site,
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
            known=catalog.models.current(),
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

    # -- what moves ---------------------------------------------------------------------------

    def point_alias(self, alias: str, name: str, *, was: str | None = None, reason: str = "") -> Change:
        """Let an alias point to a model; the next prompt of every notebook that names it uses that model.

        Parameters
        ----------
        alias : str
            A name that no model has.
        name : str
            The model.
        was : str, optional
            Where the caller believes that it points now (empty: nowhere); elsewhere nothing is moved.
        reason : str
            Kept in the history.

        Raises
        ------
        UsageError
            The alias is a model's name, or no valid name.
        UnknownNameError
            There is no such model.
        ConflictError
            It does not point to `was`.
        """
        from jupyter_llmops.inference.sources import known_models

        if any(alias.casefold() == model.name for model in known_models()):
            raise UsageError(
                f"{alias!r} is the name of a default model.", "Choose another word for the alias."
            )
        model, catalog = self.registered_model(name)
        expected = self._revision(catalog, alias, was)
        moved = catalog.models.point(alias, model.name, expected=expected, reason=reason)
        self.doorbell.ring("models")
        return moved

    def remove_alias(self, alias: str, *, reason: str = "") -> Change:
        """Take an alias of a model away; its history stays."""
        own = self.own is not self.catalog and any(_alias(c) == alias for c in self.own.models.aliases())
        moved = (self.own if own else self.catalog).models.point(alias, None, reason=reason)
        self.doorbell.ring("models")
        return moved

    def model_aliases(self) -> Listing[Change]:
        """Return where every alias of models points now, and who moved it there."""
        moves = {
            _alias(change): change
            for catalog in self._catalogs()[::-1]
            for change in catalog.models.aliases()
        }
        return Listing(
            "model alias", [moves[alias] for alias in sorted(moves)], "Type %models alias ALIAS NAME."
        )

    def model_history(self, name: str) -> Listing[Change]:
        """Return every move of an alias, or all that changed about a model, oldest first."""
        for catalog in self._catalogs():
            try:
                return Listing(
                    "model change", catalog.models.history(name), f"Nothing changed about {name!r}."
                )
            except UnknownNameError:
                continue
        known = [word for m in self.catalog_models() for word in (m.name, *m.aliases)]
        raise UnknownNameError("model or alias", name, known)

    def describe_model(self, name: str, text: str) -> Model:
        """Say in words what a model is; an empty text takes it away."""
        self._check_words(text)
        return self._changed(name, lambda catalog, row: catalog.models.describe(row, text))

    def tag_model(self, name: str, tags: Iterable[str]) -> Model:
        """Set the tags of a model."""
        tags = tuple(tags)
        self._check_words(*tags)
        return self._changed(name, lambda catalog, row: catalog.models.tag(row, tags))

    def retire_model(self, name: str, reason: str = "") -> Model:
        """Hide a model from lists; it stays usable by name."""
        self._check_words(reason)
        return self._changed(name, lambda catalog, row: catalog.models.retire(row, reason))

    def restore_model(self, name: str) -> Model:
        """Show a retired model in lists again."""
        return self._changed(name, lambda catalog, row: catalog.models.restore(row))

    # -- within -------------------------------------------------------------------------------

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

    def _changed(self, name: str, change: Any) -> Model:
        model, catalog = self.registered_model(name)
        change(catalog, model.name)
        self.doorbell.ring("models")
        return replace(catalog.models.get(model.name), private=model.private)

    def _catalogs(self) -> tuple[Catalog, ...]:
        return (self.catalog,) if self.own is self.catalog else (self.own, self.catalog)

    def _catalog_for(self, *, private: bool) -> Catalog:
        return self.own if private else self.catalog

    def _revision(self, catalog: Catalog, alias: str, was: str | None) -> int | None:
        if was is None:
            return None
        now = next(iter(catalog.changes.current("model", name="", field=f"alias:{alias}")), None)
        if (now.value if now and now.value else "") == was:
            return now.revision if now else 0
        return -1  # no revision: `point` says where it went and who moved it

    def _register(self, catalog: Catalog, model: Model) -> ScannedModel:
        from jupyter_llmops.records.scan import ScannedModel

        self._check_words(model.name, model.description, model.source)
        listed = catalog.models.current()
        same = [row for row in listed if model.digest and row.digest == model.digest]
        same = same or [row for row in listed if not model.digest and row.source == model.source]
        if same:
            row = same[0]
            place = (model.site, model.source)
            if not model.digest or place in {(place.site, place.source) for place in row.places}:
                return ScannedModel(row, "known")
            return ScannedModel(
                catalog.models.add_place(row.name, model.source, site=model.site), "place added"
            )
        added = catalog.models.add(replace(model, name=_free_name(model.name, listed), created_by=self.user))
        return ScannedModel(added, "new")

    def _described(self, source: str, progress: Progress | None) -> Model:
        """Return what lies at a source, with the digest and list of its files."""
        from jupyter_llmops.inference.at_hand import at_hand
        from jupyter_llmops.inference.scan import Reading, describe
        from jupyter_llmops.inference.sources import locate, resolve

        endpoint = _endpoint(source)
        if endpoint is not None:
            return endpoint
        reading = Reading(self.models_folder / "digests")
        path = Path(source).expanduser() if not source.startswith("~") or "/" in source else Path(source)
        if path.exists():
            if progress is not None:
                progress(f"Reading {path.name}", None)
            return describe(path.resolve(), reading)
        offline = self.settings.stay_offline()
        found = resolve(source, self.catalog_models)
        found = at_hand(
            found, self.models_folder, site=self.settings.site, offline=offline, progress=progress
        )
        try:
            facts = describe(locate(found, offline=True).path, reading)
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


def _words_of(model: Model) -> str:
    words = (
        model.name, model.description, " ".join(model.tags), model.kind, model.family, model.license,
        model.format, model.base, " ".join(model.quantizations), " ".join(model.aliases), model.source,
    )  # fmt: skip
    return "\n".join(word for word in words if word)


def _alias(change: Change) -> str:
    return change.field.removeprefix("alias:")


def _free_name(wanted: str, listed: Iterable[Model]) -> str:
    """Return a name that no model or alias has: the wanted one, or that with a number."""
    from jupyter_llmops.catalog.names import check_name
    from jupyter_llmops.inference.sources import known_models

    taken = {word.casefold() for model in listed for word in (model.name, *model.aliases)}
    taken |= {model.name for model in known_models()}
    try:
        name = check_name("model", wanted)
    except UsageError:
        name = check_name("model", f"{wanted.strip(' -@') or 'found'}-model"[:200])
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
