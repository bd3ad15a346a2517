"""The team's key: 32 random bytes that seal the items of the shared cache; who has it is of the team.

A catalog has one key. It lies in the user's own folder, or where ``LLMOPS_TEAM_KEY_FILE`` says, and never in
the catalog: whoever can write to the shared folder, but has no key, can delete items there and nothing else.
The first user makes it by using the cache; `invite` writes it into a file to hand over, `join` takes that file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jupyter_llmops.errors import TeamKeyError
from jupyter_llmops.keys.key_files import put_key, write_new

TEAM_KEY_VARIABLE: Final = "LLMOPS_TEAM_KEY_FILE"
_FORMAT: Final = "llmops-team-key/1"
_BYTES: Final = 32
_LARGEST_FILE: Final = 4096


@dataclass(frozen=True, slots=True)
class TeamKey:
    """A key in memory; its secret shows in no representation.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    path : Path or None
        The file that it was read from.
    """

    secret: bytes = field(repr=False)
    path: Path | None = None
    id: str = field(init=False)

    def __post_init__(self) -> None:
        # Says which key it is, and nothing of the key: a keyed digest of a constant.
        digest = hashlib.blake2b(b"", key=self.secret, person=b"llmops-key-id", digest_size=16)
        object.__setattr__(self, "id", digest.hexdigest())

    def __reduce__(self) -> str:
        raise TypeError("A team's key is not pickled.")


def key_path(catalog: str) -> Path:
    """Return where the key of a catalog lies or would lie.

    Parameters
    ----------
    catalog : str
        The catalog's location.
    """
    from jupyter_llmops.settings import expand, user_folder  # brings traitlets

    chosen = os.environ.get(TEAM_KEY_VARIABLE)
    if chosen:
        return expand(chosen)
    if "://" not in catalog:
        catalog = os.path.realpath(catalog)  # a folder has one key, whatever link leads to it
    return user_folder() / "keys" / f"team-{hashlib.sha256(catalog.encode()).hexdigest()[:16]}.key"


def team_key(catalog: str) -> TeamKey:
    """Return the key of a catalog; the first call makes it.

    Parameters
    ----------
    catalog : str
        The catalog's location.

    Raises
    ------
    TeamKeyError
        The file can't be read, holds no key, or others may write to it.
    """
    path = key_path(catalog)
    with contextlib.suppress(FileNotFoundError):
        return read_key(path)
    if os.environ.get(TEAM_KEY_VARIABLE):
        raise TeamKeyError(
            f"{TEAM_KEY_VARIABLE} names {path}, and there is no such file.",
            "Correct it, or unset it to use the key in your own folder.",
        )
    _put(path, secrets.token_bytes(_BYTES), replace=False)
    return read_key(path)


def invite(catalog: str, file: Path, *, inside: Path | None = None) -> TeamKey:
    """Write the key of a catalog into a new file, 0600, to be handed over; it is shown nowhere.

    Parameters
    ----------
    catalog : str
        The catalog's location.
    file : Path
        A file that is not there yet.
    inside : Path, optional
        The catalog's folder, in which the file must not lie.

    Raises
    ------
    TeamKeyError
        The file is there already, lies in the catalog, or can't be written.
    """
    if inside is not None and file.resolve().is_relative_to(inside.resolve()):
        raise TeamKeyError(
            f"{file} would lie in the catalog, where the key must never be.",
            "Name a file of your own, and hand it over on a way that you trust.",
        )
    key = team_key(catalog)
    try:
        write_new(file, _format(key.secret))
    except FileExistsError:
        raise TeamKeyError(
            f"{file} is there already and was left as it is.", "Name a new file: %llmops invite FILE"
        ) from None
    except OSError as error:
        raise TeamKeyError(
            f"{file} can't be written: {error.strerror}.", "Name another file: %llmops invite FILE"
        ) from None
    return key


def join(catalog: str, file: Path) -> tuple[TeamKey, Path | None]:
    """Take the key in a file as the key of a catalog, and return it with where the former one lies now.

    Parameters
    ----------
    catalog : str
        The catalog's location.
    file : Path
        What `invite` wrote.

    Raises
    ------
    TeamKeyError
        The file holds no key, or the key can't be kept.
    """
    if os.environ.get(TEAM_KEY_VARIABLE):
        raise TeamKeyError(
            f"The key comes from {TEAM_KEY_VARIABLE}.", "Unset it and restart the kernel to join with a file."
        )
    try:
        new = read_key(file, own=False)
    except FileNotFoundError:
        raise TeamKeyError(
            f"There is no file {file}.", "A member of the team makes one: %llmops invite FILE"
        ) from None
    path = key_path(catalog)
    former: Path | None = None
    with contextlib.suppress(FileNotFoundError):
        before = read_key(path)
        if before.id == new.id:
            return before, None
        former = path.with_name(f"{path.stem}-{before.id[:8]}.former")
        with contextlib.suppress(FileExistsError):
            write_new(former, _format(before.secret))
    _put(path, new.secret, replace=True)
    return read_key(path), former


def read_key(path: Path, *, own: bool = True) -> TeamKey:
    """Return the key that a file holds.

    Parameters
    ----------
    path : Path
        The file.
    own : bool
        Whether it is in use, so that others must not be able to replace it.

    Raises
    ------
    FileNotFoundError
        There is none.
    TeamKeyError
        It can't be read, or holds no key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TeamKeyError(f"The team's key {path} can't be read: {error.strerror}.", _mend(path)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise TeamKeyError(f"{path} is no file that holds a key.", _mend(path))
        if own and status.st_mode & 0o022:
            raise TeamKeyError(
                f"Others may write to the team's key {path}.", f"Type !chmod 600 {path} if it is yours."
            )
        data = os.read(descriptor, _LARGEST_FILE)
    finally:
        os.close(descriptor)
    secret = _secret_in(data)
    if len(secret) != _BYTES:
        raise TeamKeyError(f"{path} holds no key of a team.", _mend(path))
    return TeamKey(secret, path)


def _secret_in(data: bytes) -> bytes:
    match data.split():
        case [start, text] if start == _FORMAT.encode():
            with contextlib.suppress(ValueError):
                return base64.b64decode(text, validate=True)
    return b""


def readable_by_others(path: Path) -> bool:
    """Return whether more than its owner may read a key's file."""
    try:
        return bool(path.stat().st_mode & 0o044)
    except OSError:
        return False


def _mend(path: Path) -> str:
    return (
        f"Move {path} away and type %llmops join FILE with a key that a member of the team invited you with."
    )


def _put(path: Path, secret: bytes, *, replace: bool) -> None:
    try:
        put_key(path, _format(secret), replace=replace)
    except OSError as error:
        raise TeamKeyError(
            f"The team's key can't be kept in {path.parent}: {error.strerror}.",
            f"Make that folder writable, or name a file in {TEAM_KEY_VARIABLE}.",
        ) from None


def _format(secret: bytes) -> bytes:
    return f"{_FORMAT} {base64.b64encode(secret).decode()}\n".encode()
