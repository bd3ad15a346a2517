"""The files of models: to the team's storage and back, into memory and out of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_llmops.errors import InferenceError, ModelNotAvailableError, UsageError
from jupyter_llmops.settings import user_folder
from jupyter_llmops.workspace.models import Models
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.determinism import Determinism
    from jupyter_llmops.records.model import Model

# Another process of this user may be fetching the same files.
_LOCK_SECONDS = 24 * 3600


class ModelFiles(Models):
    """What a workspace does with the files of models."""

    def push_model(self, name: str, *, check: bool = False, progress: Progress | None = None) -> Model:
        """Bring a model's files into the team's storage, from where every host can pull them.

        What is there already is not sent again, so that an interrupted push goes on where it stopped.

        Parameters
        ----------
        check : bool
            Read what is there, and replace what is damaged.
        progress : callable, optional
            Told bytes and rate.

        Raises
        ------
        UsageError
            It has no files here, or is a private model.
        InferenceError
            A file would run code when it is loaded, or changed since it was registered.
        """
        from jupyter_llmops.inference.at_hand import at_hand
        from jupyter_llmops.inference.manifest import model_files
        from jupyter_llmops.inference.signing import signature_beside
        from jupyter_llmops.inference.sources import locate
        from jupyter_llmops.inference.transfer import push_files, push_signature

        row, _ = self._with_files(name)
        if row.private and self.own is not self.catalog:
            raise UsageError(
                f"The model {row.name!r} is yours alone, and the storage is the team's.",
                f"Type %models publish {row.name} first.",
            )
        here = at_hand(row, self.models_folder, site=self.settings.site, offline=True, progress=progress)
        files = locate(here, offline=True)
        if not row.files:
            manifest = model_files(files.root, files.files, self.models_folder / "digests")
            row = self.catalog.models.add(replace(row, digest=here.digest, files=manifest))
        push_files(self.catalog.objects, row, files.root, progress=progress, check=check)
        push_signature(self.catalog.objects, row, signature_beside(files))
        pushed = self.catalog.models.add_place(row.name, f"storage:{row.digest}", site="storage")
        self.doorbell.ring("models")
        return pushed

    def pull_model(self, name: str, *, progress: Progress | None = None) -> Model:
        """Bring a model's files from the team's storage to this machine; nothing where they are here.

        They lie in the user's models folder then, verified, and the catalog knows this place of them.

        Parameters
        ----------
        progress : callable, optional
            Told bytes and rate.

        Raises
        ------
        ModelNotAvailableError
            The storage does not have them.
        InferenceError
            What came differs from its digest; it was not kept.
        """
        from filelock import FileLock

        from jupyter_llmops.catalog.model_rows import in_storage
        from jupyter_llmops.inference.at_hand import at_hand, pulled_folder, pulled_source
        from jupyter_llmops.inference.manifest import remember
        from jupyter_llmops.inference.transfer import pull_files, pull_signature

        row, catalog = self._with_files(name)
        try:
            return at_hand(row, self.models_folder, site=self.settings.site, offline=True, progress=progress)
        except ModelNotAvailableError:
            if not in_storage(row):
                raise
        target = pulled_folder(row, self.models_folder)
        unfinished = target.with_name(f"{target.name}.unfinished")
        try:
            unfinished.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_name(f".{target.name}.lock"), timeout=_LOCK_SECONDS):
                if not target.is_dir():
                    unfinished.mkdir(parents=True, exist_ok=True)
                    pull_files(catalog.objects, row, unfinished, progress=progress)
                    pull_signature(catalog.objects, row, unfinished)
                    unfinished.rename(target)
                    for file in row.files:
                        remember(target / file.path, file.sha256, self.models_folder / "digests")
        except OSError as error:
            raise InferenceError(
                f"The files of {row.name!r} can't be kept in {target.parent}: {_why(error)}.",
                "Free some space there or make it writable, then repeat the line.",
            ) from error
        pulled = catalog.models.add_place(row.name, pulled_source(row, self.models_folder))
        self.doorbell.ring("models")
        return at_hand(pulled, self.models_folder, site=self.settings.site, offline=True, progress=progress)

    def _with_files(self, name: str) -> tuple[Model, Catalog]:
        row, catalog = self.registered_model(name)
        if row.source.startswith(("endpoint:", "mlflow:")):
            raise UsageError(
                f"The model {row.name!r} has no files here to move: its source is {row.source}.",
                "Only models in folders, packages and the hub's cache are pushed and pulled.",
            )
        return row, catalog

    def load_model(self, name: str, quantization: str = "", progress: Progress | None = None) -> str:
        """Load a model into memory and return what was loaded, in words."""
        model = self.model(name)
        identity = self.engine.identify(model, quantization or self.settings.quantization)
        self.engine.load(model, identity.quantization, progress)
        if not identity.device:
            return f"{model.name} needs no loading: {identity.reason}."
        return f"{model.name} is loaded as {identity.quantization} on {identity.device}: {identity.reason}"

    def unload_models(self, name: str = "") -> list[str]:
        """Drop one model, or all, from memory and return their names."""
        if "engine" not in self.__dict__:
            return []
        wanted = self.named_model(name).name if name else ""
        names = [loaded.name for loaded in self.engine.loaded() if not wanted or loaded.name == wanted]
        for loaded in names:
            self.engine.unload(loaded)
        return names

    def grade_model(
        self,
        name: str = "",
        *,
        quantization: str = "",
        exact: bool = False,
        restart: bool = True,
        progress: Progress | None = None,
    ) -> Determinism:
        """Measure how repeatable a model's answers are here, and keep the grade for every later record.

        Parameters
        ----------
        name : str
            A model; the setting ``LLMOps.model`` by default.
        quantization : {"auto", "nf4", "int8", "bf16", "fp32", "gguf"}
            Precision of the weights; the setting by default.
        exact : bool
            Whether to measure the exact mode.
        restart : bool
            Whether to ask in a fresh process too.
        progress : callable, optional
            Told what is being asked and how far it is, 0 to 1.

        Raises
        ------
        UsageError
            It is an endpoint.
        InferenceError
            It can't answer, or the grade can't be kept.
        """
        from jupyter_llmops.inference.determinism import in_fresh_process, measure
        from jupyter_llmops.inference.grades import Grades

        model = self.model(name or self.settings.model)
        wanted = quantization or self.settings.quantization
        offline = self.settings.stay_offline()
        measured = measure(
            self.engine.engine_for(model, wanted, exact=exact),
            model,
            wanted,
            exact=exact,
            restart=in_fresh_process(self.models_folder, model, offline=offline) if restart else None,
            progress=progress,
        )
        try:
            Grades(user_folder()).keep(measured)
        except OSError as error:
            raise InferenceError(
                f"The grade ({measured.grade}) can't be kept: {error.strerror or error}.",
                "Make the folder of LLMOPS_HOME writable, then measure again.",
            ) from error
        return measured


def _why(error: OSError) -> str:
    return error.strerror or "another process is fetching them and does not end"
