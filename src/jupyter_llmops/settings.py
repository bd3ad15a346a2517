"""Settings: Jupyter configuration files, ``%config LLMOps.…`` and the environment."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path

from traitlets import Bool, Dict, Enum, Float, Int, List, TraitError, Unicode, validate
from traitlets.config import Config, Configurable
from traitlets.config.loader import (
    ConfigFileNotFound,
    ConfigLoader,
    JSONFileConfigLoader,
    PyFileConfigLoader,
)

from jupyter_llmops.errors import SettingsError
from jupyter_llmops.location import Location

CATALOG_VARIABLE = "LLMOPS_CATALOG"
SNAPSHOT_VARIABLE = "LLMOPS_SNAPSHOT"
USER_FOLDER_VARIABLE = "LLMOPS_HOME"
MARKER_FOLDER = ".llmops"
CONFIG_NAME = "jupyter_llmops_config"
DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_ENCODER = "all-minilm-l6-v2"


class LLMOps(Configurable):
    """What a user can set, in ``jupyter_llmops_config.py`` or with ``%config LLMOps.name = value``."""

    catalog = Unicode(
        "",
        help="The shared catalog: a folder, or s3://bucket/prefix; empty searches for a .llmops folder upward.",
    ).tag(config=True)
    snapshot = Unicode(
        "", help="Name of a snapshot: the shared catalog is read as it was then, and not written."
    ).tag(config=True)
    retention = Float(
        600.0, min=0.0, help="Seconds that upkeep leaves old versions of the catalog to whoever reads them."
    ).tag(config=True)
    model = Unicode(DEFAULT_MODEL, help="Model of a prompt that names none.").tag(config=True)
    encoder = Unicode(DEFAULT_ENCODER, help="Embedding model of a collection that names none.").tag(
        config=True
    )
    quantization = Enum(
        ["auto", "nf4", "int8", "bf16", "fp32", "gguf"],
        default_value="auto",
        help="Precision of the weights; auto takes what fits the free memory, and says why.",
    ).tag(config=True)
    max_new_tokens = Int(256, min=1, help="Most tokens of an answer, unless -n says otherwise.").tag(
        config=True
    )
    offline = Bool(False, help="Never ask the Hugging Face hub (HF_HUB_OFFLINE=1 does the same).").tag(
        config=True
    )
    trusted_keys = List(
        Unicode(),
        help="PEM files of the public keys or certificates whose OpenSSF signatures of models count.",
    ).tag(config=True)
    require_signed_models = Bool(False, help="Refuse models that none of the trusted keys signed.").tag(
        config=True
    )
    cache = Bool(True, help="Reuse answers of identical requests.").tag(config=True)
    audit = Bool(True, help="Stamp every cell run into the audit trail.").tag(config=True)
    agent = Enum(
        ["auto", "off"],
        default_value="auto",
        help="auto: where no Jupyter server does it, a kernel starts a background process that "
        "carries the journal into the catalog and leaves when idle.",
    ).tag(config=True)
    site = Unicode(help="Name of this host or site in the catalog; the host name by default.").tag(
        config=True
    )
    price_per_hour = Dict(
        value_trait=Float(min=0.0),
        key_trait=Unicode(),
        help="Price of an hour by device name or 'cpu', e.g. {'NVIDIA H100': 2.5}; no entry, no price.",
    ).tag(config=True)
    price_per_million_tokens = Dict(
        key_trait=Unicode(),
        help="Prices of a million tokens in and out by model, for endpoints that no public price list "
        "knows, e.g. {'team-llama': (0.2, 0.6)}.",
    ).tag(config=True)
    currency = Unicode("USD", help="Currency of the prices.").tag(config=True)

    def _site_default(self) -> str:
        return socket.gethostname()

    @validate("price_per_hour")
    def _no_free_devices(self, proposal: dict[str, object]) -> object:
        prices = proposal["value"]
        if isinstance(prices, dict) and any(price == 0 for price in prices.values()):
            raise TraitError("A price of 0 would read as free; leave the device out instead.")
        return prices

    @validate("price_per_million_tokens")
    def _two_prices(self, proposal: dict[str, object]) -> object:
        prices = proposal["value"]
        if isinstance(prices, dict):
            for name, pair in prices.items():
                numbers = isinstance(pair, (tuple, list)) and all(
                    isinstance(price, (int, float)) and not isinstance(price, bool) and price >= 0
                    for price in pair
                )
                if not numbers or len(pair) != 2:
                    raise TraitError(
                        f"{name!r} needs two prices, of a million tokens in and out, e.g. (0.2, 0.6)."
                    )
        return prices

    def stay_offline(self) -> bool:
        """Return whether the hub must not be asked."""
        return self.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def load_settings(parent: Configurable | None = None) -> LLMOps:
    """Return the settings from the Jupyter configuration files and, where given, from IPython's.

    Parameters
    ----------
    parent : Configurable, optional
        The IPython shell or the server application whose own configuration wins over the files.

    Raises
    ------
    SettingsError
        A configuration file can't be read or holds a value that is not valid.
    """
    config = _config_from_files()
    if parent is not None:
        config.merge(parent.config)
    try:
        return LLMOps(config=config)
    except TraitError as error:
        raise SettingsError(
            f"A setting is not valid: {error}", "Correct it in jupyter_llmops_config.py."
        ) from error


def _config_from_files() -> Config:
    from jupyter_core.paths import jupyter_config_path

    config = Config()
    # The first folder of the path wins, so it is merged last.
    for folder in reversed(jupyter_config_path()):
        loaders: list[ConfigLoader] = [
            JSONFileConfigLoader(f"{CONFIG_NAME}.json", path=folder),
            PyFileConfigLoader(f"{CONFIG_NAME}.py", path=folder),
        ]
        for loader in loaders:
            try:
                config.merge(loader.load_config())
            except ConfigFileNotFound:
                continue
            except Exception as error:  # a config file is code: anything can come
                raise SettingsError(
                    f"The configuration in {folder} can't be read: {error}", f"Correct {CONFIG_NAME} there."
                ) from error
    return config


def user_name() -> str:
    """Return who is using this; a number where the system knows no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"


def user_folder() -> Path:
    """Return the user's private folder: journals, content sidecars, converted models."""
    chosen = os.environ.get(USER_FOLDER_VARIABLE)
    if chosen:
        return expand(chosen)
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "llmops"


def expand(text: str) -> Path:
    """Return a path with ``~`` expanded.

    Raises
    ------
    SettingsError
        It names the home of a user who is not there.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"The path {text!r} can't be used: {error}", "Write it out in full.") from None


def find_catalog(settings: LLMOps, start: Path | None = None) -> Location:
    """Return where the catalog lies: a folder, or a prefix of an S3 bucket.

    The order is ``LLMOPS_CATALOG``, the Jupyter configuration, the nearest ``.llmops`` folder
    from `start` upward, the user's Jupyter data folder. The first two may name ``s3://bucket/prefix``.

    Parameters
    ----------
    settings : LLMOps
        The settings in force.
    start : Path, optional
        Where the search upward begins; the working folder by default.

    Raises
    ------
    SettingsError
        What was chosen is neither a path nor the URI of a bucket.
    """
    chosen = os.environ.get(CATALOG_VARIABLE) or settings.catalog
    if chosen:
        return Location.parse(chosen)
    here = (start or Path.cwd()).resolve()
    private = user_folder().resolve()
    for folder in (here, *here.parents):
        marker = folder / MARKER_FOLDER
        if marker.is_dir() and marker != private:
            return Location.parse(marker)
    return private_catalog()


def find_snapshot(settings: LLMOps) -> str:
    """Return the name of the snapshot to open: ``LLMOPS_SNAPSHOT``, else the setting; empty for none."""
    return (os.environ.get(SNAPSHOT_VARIABLE) or settings.snapshot).strip()


def private_catalog() -> Location:
    """Return where the user's own catalog lies, which nobody else reads."""
    return Location.parse(user_folder() / "catalog")
