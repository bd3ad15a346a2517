"""The registry of models: list, find, add, scan, aliases, words about them, yours and the team's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.workspace.model_adding import ModelAdding
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.change import Change
    from jupyter_llmops.records.model import Model

_ADD_HINT = "Add one with %models add NAME SOURCE, or find those of this machine with %models scan."


class Models(ModelAdding):
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

        listed = self.catalog_models()
        names = {model.name for model in listed}
        listed = [*listed, *(model for model in known_models() if model.name not in names)]
        kept = [model for model in listed if retired or not model.retired]
        measured = self.catalog.models.speeds(host=self.settings.site)
        found = [replace(model, speeds=measured.of(model)) for model in kept]
        return Listing(
            "model", sorted(found, key=lambda m: (m.name.casefold(), m.name, m.private)), _ADD_HINT
        )

    def find_models(self, text: str, progress: Progress | None = None) -> Listing[Model]:
        """Return the models whose name holds a text; where none does, those whose words or meaning fit, best first.

        Parameters
        ----------
        text : str
            A part of a name, family, kind, licence, source, description or tag; or what it should be for.
        progress : callable, optional
            Told while texts are embedded for the first time.
        """
        listed = {model.name: model for model in self.models()}  # one's own counts before the team's
        texts = {name: _words_of(model) for name, model in listed.items()}
        wanted = " ".join(text.split()).casefold()
        if not wanted:
            return self.models()
        named = [name for name in listed if wanted in name.casefold()]
        hint = "%models lists all."
        if named:  # whoever types a part of a name need not wait for an encoder
            why = dict.fromkeys(named, "its name holds the text")
            return Listing("model", [listed[name] for name in named], hint, why=why)
        worded = [name for name, words in texts.items() if wanted in words.casefold()]
        about = self.find_names("model", texts, text, progress)
        found = [listed[name] for name in dict.fromkeys([*worded, *about]) if name in listed]
        return Listing("model", found, hint, why=about.why, note=about.note)

    def show_model(self, name: str) -> Model:
        """Return one model with its places, aliases and the speeds that were measured anywhere.

        Raises
        ------
        UnknownNameError
            There is none; the error names the nearest.
        """
        model = self.named_model(name)
        return replace(model, speeds=self.catalog.models.speeds(model=model.name).of(model))

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
        return self._marked(moved, catalog)

    def remove_alias(self, alias: str, *, reason: str = "") -> Change:
        """Take an alias of a model away; its history stays."""
        own = self.own is not self.catalog and any(_alias(c) == alias for c in self.own.models.aliases())
        catalog = self.own if own else self.catalog
        moved = catalog.models.point(alias, None, reason=reason)
        self.doorbell.ring("models")
        return self._marked(moved, catalog)

    def model_aliases(self) -> Listing[Change]:
        """Return where every alias of models points now, and who moved it there."""
        moves = {
            _alias(change): self._marked(change, catalog)
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

    def _changed(self, name: str, change: Any) -> Model:
        model, catalog = self.registered_model(name)
        change(catalog, model.name)
        self.doorbell.ring("models")
        return replace(catalog.models.get(model.name), private=model.private)

    def _marked(self, change: Change, catalog: Catalog) -> Change:
        return replace(change, private=catalog is self.own and catalog is not self.catalog)

    def _catalogs(self) -> tuple[Catalog, ...]:
        return (self.catalog,) if self.own is self.catalog else (self.own, self.catalog)

    def _revision(self, catalog: Catalog, alias: str, was: str | None) -> int | None:
        if was is None:
            return None
        now = next(iter(catalog.changes.current("model", name="", field=f"alias:{alias}")), None)
        if (now.value if now and now.value else "") == was:
            return now.revision if now else 0
        return -1  # no revision: `point` says where it went and who moved it


# What people call a kind when they look for one.
_KINDS = {
    "llm": "language model that answers, writes, chats and generates text",
    "encoder": "embedding model, encoder: vectors of sentences for search and similarity",
    "classic": "machine learning model: classification, regression",
    "adapter": "adapter, LoRA, fine-tuning of a language model",
}
_SMALL, _LARGE = 1e9, 2e10


def _words_of(model: Model) -> str:
    words = (
        model.name, model.description, " ".join(model.tags), _size_of(model), model.kind, _KINDS[model.kind], model.family, model.license,
        model.format, model.base, " ".join(model.quantizations), " ".join(model.aliases), model.source,
    )  # fmt: skip
    return "\n".join(word for word in words if word)


def _size_of(model: Model) -> str:
    if not model.parameters:
        return ""
    return "small" if model.parameters < _SMALL else "large" if model.parameters >= _LARGE else ""


def _alias(change: Change) -> str:
    return change.field.removeprefix("alias:")
