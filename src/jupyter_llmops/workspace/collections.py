"""The collections of a workspace: list, find, add, search, migrate, publish."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.workspace.finding import Finding
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.inference.encoder import Encoder
    from jupyter_llmops.records.change import Change
    from jupyter_llmops.records.collection import AddReport, Collection, SearchResult
    from jupyter_llmops.retrieval.filters import Filters

_HINT = "Add one with %collections add NAME --from DATA --text COLUMN."


class Collections(Finding):
    """What a workspace does with collections."""

    def collections(self, *, retired: bool = False) -> Listing[Collection]:
        """Return the team's collections and the user's own.

        Parameters
        ----------
        retired : bool
            True lists what was retired too.
        """
        found = [one for one in self._all_collections() if retired or not one.retired]
        return Listing("collection", found, _HINT)

    def collection(self, name: str) -> Collection:
        """Return a collection, the user's own before the team's.

        Raises
        ------
        UnknownNameError
            There is none; the nearest names are in the hint.
        """
        catalog = self._catalog_of(name)
        return replace(catalog.collections.get(name), private=self._is_private(catalog))

    def find_collections(self, text: str, progress: Progress | None = None) -> Listing[Collection]:
        """Return the collections that a text names, then those that are about it, best first.

        Parameters
        ----------
        text : str
            A part of a name, description, tag or column; or what it should be about.
        progress : callable, optional
            Told while texts are embedded for the first time.
        """
        listed = {one.name: one for one in reversed(self.collections())}
        texts = {name: _said_of(one) for name, one in listed.items()}
        names = self.find_names("collection", texts, text, progress)
        found = [listed[name] for name in names]
        return Listing("collection", found, "%collections lists all.", why=names.why, note=names.note)

    def add_to_collection(
        self,
        name: str,
        source: Any,
        *,
        text: str = "",
        id: str = "",
        private: bool = False,
        max_tokens: int | None = None,
        overlap: int | None = None,
        encoder: str = "",
        progress: Progress | None = None,
    ) -> AddReport:
        """Cut documents into chunks, embed what is new or changed, and add it to a collection.

        A stopped addition goes on where it stopped when it is repeated.

        Parameters
        ----------
        name : str
            The collection; created where it is not there yet.
        source : DataFrame, list, path
            See `jupyter_llmops.retrieval.documents.documents_of`.
        text, id : str
            Columns of the text and of the document's name; every other column is metadata.
        private : bool
            Into the user's own catalog instead of the team's.
        max_tokens, overlap : int, optional
            How a new collection is cut: tokens of a chunk, and of what it repeats of the one before.
        encoder : str
            Model of a new collection; the setting `LLMOps.encoder` by default.
        progress : callable, optional
            Told how far it is, how fast, and how long it will take.

        Raises
        ------
        UsageError
            The source or a column can't be used.
        SpaceError
            The collection was made with another encoder.
        """
        from jupyter_llmops.records.collection import Chunking
        from jupyter_llmops.retrieval.adding import add_documents
        from jupyter_llmops.retrieval.documents import documents_of

        documents = documents_of(source, text=text, id=id)
        catalog = self._target(name, private=private)
        chunking = None
        if max_tokens is not None or overlap is not None:
            most = Chunking().max_tokens if max_tokens is None else max_tokens
            chunking = Chunking(
                most, min(Chunking().overlap_tokens, most // 10) if overlap is None else overlap
            )
        loaded = self._encoder_for(catalog, name, encoder, progress)
        secret = self._is_private(catalog)
        report = add_documents(
            catalog,
            name,
            documents,
            loaded,
            chunking=chunking,
            find_secrets=None if secret else self._secrets_in,
            progress=progress,
        )
        if secret and len(self._holders(name)) == 2 and self._own_is_retired(name):
            self.own.collections.restore(name)  # it was published; what is new is the user's alone again
        self.doorbell.ring("collections")
        return replace(report, private=secret)

    def search(
        self,
        collection: str,
        query: str,
        k: int = 5,
        filters: Filters = (),
        how: Literal["hybrid", "vector", "text"] = "hybrid",
        encoder: str = "",
        progress: Progress | None = None,
    ) -> SearchResult:
        """Return the passages of a collection that fit a query best.

        Parameters
        ----------
        collection : str
            Its name.
        query : str
            What is looked for.
        k : int
            Most passages, 1 to 1,000.
        filters : sequence of str, or mapping
            Conditions on metadata, e.g. ``["year>=2020", "author=Ann"]`` or ``{"author": "Ann"}``; all must fit.
        how : {"hybrid", "vector", "text"}
            By meaning, by words, or by both.
        encoder : str
            The collection's own by default; any other is refused.
        progress : callable, optional
            Told while the encoder is loaded.

        Raises
        ------
        UnknownNameError
            There is no such collection.
        UsageError
            The query, k or a filter is not valid.
        SpaceError
            The encoder makes vectors of another space.
        """
        from jupyter_llmops.retrieval.search import check, search

        catalog = self._catalog_of(collection)
        check(query, k, how)  # before an encoder is loaded for nothing
        loaded = None if how == "text" else self._encoder_for(catalog, collection, encoder, progress)
        return search(catalog, collection, query, loaded, k, filters, how)

    def migrate_collection(self, name: str, encoder: str, progress: Progress | None = None) -> Collection:
        """Embed a collection anew with another encoder; the old vectors are searched until it is done.

        Parameters
        ----------
        encoder : str
            Name of the model; the one that the collection has gives up a migration that was begun.

        Raises
        ------
        ConflictError
            Somebody else migrated it meanwhile.
        """
        from jupyter_llmops.retrieval.spaces import migrate

        catalog = self._catalog_of(name)
        if progress is not None:
            progress(f"Loading {encoder}", None)
        migrate(catalog, name, self.encoder(encoder), progress)
        self.doorbell.ring("collections")
        return self.collection(name)

    def publish_collection(self, name: str, progress: Progress | None = None) -> AddReport:
        """Copy a collection of the user's own catalog to the team's, vectors and all.

        The user's own is retired then, so that its name means the team's; it stays where something
        was left out.

        Raises
        ------
        UnknownNameError
            There is no private collection of that name.
        SpaceError
            The team has one of that name in another space.
        """
        from jupyter_llmops.retrieval.publishing import publish

        if self.own is self.catalog or self.own not in self._holders(name):
            known = [] if self.own is self.catalog else self.own.collections.names()
            raise UnknownNameError(
                "private collection", name, known, "" if known else "What is the team's is published already."
            )
        report = publish(self.own, self.catalog, name, find_secrets=self._secrets_in, progress=progress)
        if not report.skipped:
            self.own.collections.retire(name, "published")
        self.doorbell.ring("collections")
        return report

    def describe_collection(
        self, name: str, description: str | None = None, tags: Sequence[str] | None = None
    ) -> Collection:
        """Say what a collection is about; what is None stays as it is."""
        catalog = self._catalog_of(name)
        if not self._is_private(catalog) and self._secrets_in(" ".join([description or "", *(tags or ())])):
            raise UsageError("The description seems to hold a secret.", "Leave it out: a catalog is shared.")
        found = catalog.collections.describe(name, description, tags)
        self.doorbell.ring("collections")
        return replace(found, private=self._is_private(catalog))

    def retire_collection(self, name: str, reason: str = "") -> Collection:
        """Hide a collection from lists; it can still be searched by name."""
        catalog = self._catalog_of(name)
        found = catalog.collections.retire(name, reason)
        self.doorbell.ring("collections")
        return replace(found, private=self._is_private(catalog))

    def restore_collection(self, name: str) -> Collection:
        """Show a retired collection again."""
        catalog = self._catalog_of(name)
        found = catalog.collections.restore(name)
        self.doorbell.ring("collections")
        return replace(found, private=self._is_private(catalog))

    def collection_history(self, name: str) -> list[Change]:
        """Return every migration, retirement and description of a collection, oldest first."""
        return self._catalog_of(name).collections.history(name)

    # -- within -------------------------------------------------------------------------------

    def _all_collections(self) -> list[Collection]:
        """Return the user's own collections first, where a name is in both catalogs."""
        mine = [] if self.own is self.catalog else self.own.collections.list()
        found = [replace(one, private=True) for one in mine] + self.catalog.collections.list()
        return sorted(found, key=lambda one: (one.name.casefold(), one.name, not one.private))

    def _catalog_of(self, name: str) -> Catalog:
        holders = self._holders(name)
        if len(holders) == 2 and self._own_is_retired(name):
            return self.catalog  # it was published: from then on the team's counts
        if holders:
            return holders[0]
        raise UnknownNameError("collection", name, [one.name for one in self._all_collections()], "")

    def _target(self, name: str, *, private: bool) -> Catalog:
        """Return where documents go: the user's own catalog if asked or if the collection is there."""
        if private:
            return self.own
        try:
            return self._catalog_of(name)
        except UnknownNameError:
            return self.catalog

    def _holders(self, name: str) -> list[Catalog]:
        """Return the catalogs that have a collection, the user's own first."""
        composed = unicodedata.normalize("NFC", name)
        places = dict.fromkeys((self.own, self.catalog))
        return [catalog for catalog in places if composed in catalog.collections.names()]

    def _own_is_retired(self, name: str) -> bool:
        composed = unicodedata.normalize("NFC", name)
        found = self.own.changes.current("collection", name=composed, field="retired")
        return any(change.value for change in found)

    def _is_private(self, catalog: Catalog) -> bool:
        return catalog is self.own and self.own is not self.catalog

    def _encoder_for(self, catalog: Catalog, name: str, encoder: str, progress: Progress | None) -> Encoder:
        """Return the encoder that was named, else the collection's, else that of the settings."""
        if not encoder:
            try:
                encoder = catalog.collections.standing(name).space.encoder
            except UnknownNameError:
                encoder = self.settings.encoder
        from jupyter_llmops.inference.encoder import is_loaded

        if progress is not None and not is_loaded(encoder):
            progress(f"Loading the encoder {encoder}", None)
        return self.encoder(encoder)

    def _secrets_in(self, text: str) -> Sequence[str]:
        return self.redactor.redact(text).found


def _said_of(one: Collection) -> str:
    return " ".join([one.name, one.description, *one.tags, *one.metadata])
