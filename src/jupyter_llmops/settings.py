"""Settings: Jupyter configuration files, ``%config LLMOps.…`` and the environment."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Any

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
ENDPOINT_LIMITS = ("concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "patience")
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
    allow_unsafe_models = List(
        Unicode(),
        help="Names or folders of models whose files may run code: a pickle, or Python of their own.",
    ).tag(config=True)
    cache = Bool(True, help="Reuse answers of identical requests.").tag(config=True)
    cache_limit = Unicode(
        "5GB", help="Most bytes of stored answers, e.g. '500 MB' or 'off'; a folder's own limit comes first."
    ).tag(config=True)
    cache_age = Unicode(
        "off", help="Longest age of a stored answer, e.g. '30d' or 'off'; a folder's own limit comes first."
    ).tag(config=True)
    audit = Bool(True, help="Stamp every cell run into the audit trail.").tag(config=True)
    share_content = Bool(
        True,
        help="Share what runs said (redacted sources, prompts, answers) with the catalog, so that everyone finds "
        "them; otherwise only the leaves are shared, which hold digests.",
    ).tag(config=True)
    witness = Bool(True, help="Countersign the heads of colleagues' logs in the catalog.").tag(config=True)
    retain = Unicode(
        "",
        help="How long sessions stay before the agent prunes them to their signed heads, e.g. '1y' or '90d'; "
        "empty for ever. %audit retain does it once.",
    ).tag(config=True)
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
    endpoint_limits = Dict(
        value_trait=Dict(),
        key_trait=Unicode(),
        help="Limits by name or host of an endpoint: concurrency (8), requests_per_minute, tokens_per_minute, "
        "timeout (120 seconds of silence) and patience (180 seconds of trying again in a map), e.g. "
        "{'gpt': {'concurrency': 4, 'requests_per_minute': 60}}.",
    ).tag(config=True)
    http_endpoints = List(
        Unicode(),
        help="Hosts whose endpoints are asked without encryption (http); this machine's always are.",
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

    @validate("endpoint_limits")
    def _known_limits(self, proposal: dict[str, Any]) -> object:
        for name, limits in proposal["value"].items():
            for limit, value in limits.items():
                if limit not in ENDPOINT_LIMITS:
                    raise TraitError(f"{limit!r} is no limit; valid are {', '.join(ENDPOINT_LIMITS)}.")
                number = isinstance(value, (int, float)) and not isinstance(value, bool)
                if not number or not 0 < value < 1e9 or (limit == "concurrency" and int(value) != value):
                    raise TraitError(f"The {limit} of {name!r} can't be {value!r}.")
        return proposal["value"]

    @validate("cache_limit", "cache_age")
    def _readable_limits(self, proposal: dict[str, Any]) -> object:
        read = parse_size if proposal["trait"].name == "cache_limit" else parse_age
        try:
            read(proposal["value"])
        except SettingsError as error:
            raise TraitError(str(error)) from None
        return proposal["value"]

    def stay_offline(self) -> bool:
        """Return whether the hub must not be asked."""
        return self.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def parse_size(text: str) -> int | None:
    """Return the bytes that a text such as "5GB", "500 MB" or "2 GiB" means; None for "off".

    Raises
    ------
    SettingsError
        It is no size.
    """
    number, unit = _quantity(text, "size", "5GB, 500MB or off")
    if unit == "off":
        return None
    binary = unit.endswith("ib")
    prefix = unit.removesuffix("ib").removesuffix("b")
    # A bare number is refused: 5 bytes for a slip of 5 GB would throw everything away.
    if unit in {"", "ib"} or prefix not in {"", *"kmgt"}:
        raise SettingsError(f"{text!r} is no size.", "Type for example 5GB, 500MB or off.")
    return int(number * (1024 if binary else 1000) ** ("", *"kmgt").index(prefix))


def parse_age(text: str) -> float | None:
    """Return the seconds that a text such as "30d", "12 h" or "2 weeks" means; None for "off".

    Raises
    ------
    SettingsError
        It is no age.
    """
    number, unit = _quantity(text, "age", "30d, 12h or off")
    if unit == "off":
        return None
    seconds = next((length for names, length in _AGES if unit in names), None)
    if seconds is None:
        raise SettingsError(f"{text!r} is no age.", "Type for example 30d, 12h or off.")
    return number * seconds


def _quantity(text: str, noun: str, examples: str) -> tuple[float, str]:
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-z]*)\s*", text.lower())
    if found is not None:
        return float(found[1]), found[2]
    if text.strip().lower() in {"off", "none", ""}:
        return 0.0, "off"
    raise SettingsError(f"{text!r} is no {noun}.", f"Type for example {examples}.")


_AGES = (
    (("s", "second", "seconds"), 1.0),
    (("min", "minute", "minutes"), 60.0),
    (("h", "hour", "hours"), 3600.0),
    (("d", "day", "days"), 86_400.0),
    (("w", "week", "weeks"), 604_800.0),
)


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


def cache_folder(location: Location) -> Path:
    """Return where a catalog's answers are kept: in its folder for all, of a bucket's for this user alone."""
    if location.folder is not None:
        return location.folder / "cache"
    digest = hashlib.sha256(location.uri.encode()).hexdigest()[:16]
    return user_folder() / "cache" / digest


def private_catalog() -> Location:
    """Return where the user's own catalog lies, which nobody else reads."""
    return Location.parse(user_folder() / "catalog")
