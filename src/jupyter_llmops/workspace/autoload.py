"""Loading in every kernel of an IPython profile: one startup file, which says what it is and does no harm."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jupyter_llmops.errors import UsageError

STARTUP_FILE = "50-jupyter-llmops.py"

_FIRST = "# Written by %llmops autoload on"
_SINCE = re.compile(r"^# Since (\S+)$", re.MULTILINE)

# IPython runs it in the user's namespace, so it leaves no name there. A kernel whose Python has no such
# package starts as if the file were not there, and one in which loading fails starts all the same.
_CODE = """{first}; %llmops autoload off (or deleting this file) undoes it.
# Since {since}
def _load_jupyter_llmops():
    import importlib.util
    import sys

    if importlib.util.find_spec("jupyter_llmops") is None:
        return
    try:
        get_ipython().extension_manager.load_extension("jupyter_llmops")
    except Exception as error:
        print(
            f"jupyter_llmops was not loaded, so cells are not stamped: {{type(error).__name__}}: {{error}}",
            file=sys.stderr,
        )


try:
    _load_jupyter_llmops()
finally:
    del _load_jupyter_llmops
"""


@dataclass(frozen=True, slots=True)
class Autoload:
    """A profile whose kernels load the extension.

    Parameters
    ----------
    profile : str
        Name of the IPython profile.
    path : str
        The file that does it.
    since : datetime or None
        When it was switched on, None where the file does not say so.
    """

    profile: str
    path: str
    since: datetime | None

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M} UTC" if self.since else ""
        return f"on in profile {self.profile}{since}"


def switch_on(startup: Path) -> Autoload:
    """Write the startup file of a profile, unless it is there as it should be.

    Parameters
    ----------
    startup : Path
        The profile's folder of startup files.

    Raises
    ------
    UsageError
        It can't be written, or a file of that name is not ours.
    """
    path = startup / STARTUP_FILE
    before = _read(path)
    since = _since(before) or datetime.now(UTC)
    wanted = _CODE.format(first=_FIRST, since=f"{since:%Y-%m-%dT%H:%M:%SZ}")
    try:
        startup.mkdir(parents=True, exist_ok=True)
        if before != wanted:
            # A kernel that starts now reads the old file or the new one, never half of it.
            partial = path.with_suffix(".partial")
            partial.write_text(wanted, "utf-8")
            partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    return _autoload(path, wanted)


def switch_off(startup: Path) -> bool:
    """Delete the startup file of a profile and return whether there was one.

    Raises
    ------
    UsageError
        It can't be deleted, or a file of that name is not ours.
    """
    path = startup / STARTUP_FILE
    if not _read(path):
        return False
    try:
        path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from None
    return True


def autoload_of(startup: Path) -> Autoload | None:
    """Return what a profile's startup file says, None where there is none of ours."""
    path = startup / STARTUP_FILE
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return None
    return _autoload(path, text) if text.startswith(_FIRST) else None


def autoloads() -> tuple[Autoload, ...]:
    """Return every profile of this user whose kernels load the extension."""
    from IPython.paths import get_ipython_dir

    folders = sorted(Path(get_ipython_dir()).glob("profile_*/startup"))
    return tuple(found for found in map(autoload_of, folders) if found is not None)


def _autoload(path: Path, text: str) -> Autoload:
    return Autoload(path.parent.parent.name.removeprefix("profile_"), str(path), _since(text))


def _since(text: str) -> datetime | None:
    found = _SINCE.search(text)
    try:
        return datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def _read(path: Path) -> str:
    """Return the text of our file, empty where there is none; refuse one that others wrote."""
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unwritable(path, error) from None
    if text and not text.startswith(_FIRST):
        raise UsageError(f"{path} was not written by %llmops autoload.", "Move it away and try again.")
    return text


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path} can't be written: {error.strerror}.",
        "Make the folder writable, or type %load_ext jupyter_llmops by hand.",
    )
