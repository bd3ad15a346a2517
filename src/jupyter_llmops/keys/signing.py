"""The two keys with which a user signs: one the heads of the own logs, one the heads of others' logs.

Each is an Ed25519 key in a file of its own, ``log.key`` and ``witness.key`` in the folder ``keys`` of the user's
own folder: 0600, PEM (PKCS8), made at its first use. Their public halves are C2SP verifier keys.

``log.id`` beside them says which key the logs have, for kernels that load none: the names of their sessions end
with its mark, as do the origins of their logs. So nobody else's key can pass for the one of such a log::

    k<16 hex> <time of log.key, ns> <public key, hex>   the key that signs
    k<16 hex> <…> <…>                                   one that signed before, the latest first

So logs can be checked although the key can't be read, or was replaced. Older versions wrote two words. As whose
key it names is trusted, it is read with the care of the keys: a link, or a file that others may write, counts for
nothing and stays as it is until its user has looked at it. Others may read it, as all in it is public.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import stat
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.key_files import put_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LOG_KEY: Final = "log.key"
LOG_ID: Final = "log.id"
WITNESS_KEY: Final = "witness.key"
ORIGIN_PREFIX: Final = "jupyter-llmops/"
# Signature types of c2sp.org/signed-note: Ed25519, and timestamped Ed25519 cosignatures.
ED25519: Final = 1
COSIGNATURE: Final = 4
_LARGEST_FILE: Final = 4096
_MOST_FORMER: Final = 20
_BOUND = re.compile(r".*-(k[0-9a-f]{16})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The two private keys of a user; they show in no representation and are not pickled.

    Parameters
    ----------
    log : Ed25519PrivateKey
        Signs the heads of this user's logs.
    witness : Ed25519PrivateKey
        Signs the heads of others' logs.
    """

    log: Ed25519PrivateKey = field(repr=False)
    witness: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, folder: Path) -> LogKeys:
        """Return the keys in a folder; the first call makes them.

        Parameters
        ----------
        folder : Path
            Holds ``log.key`` and ``witness.key``; `keys_folder` says which.

        Raises
        ------
        AuditError
            A file can't be read or made, holds no such key, or others may read it.
        """
        log, moment = _load(Path(folder) / LOG_KEY)
        witness, _ = _load(Path(folder) / WITNESS_KEY)
        keys = cls(log, witness)
        _say_id(Path(folder), keys.log_public, moment)
        return keys

    def log_vkey(self, user: str, host: str) -> str:
        """Return the verifier key of the logs under its general name; the key itself is the one of each log."""
        return verifier_key(f"{ORIGIN_PREFIX}log/{_person(user, host)}", self.log_public)

    def session_vkey(self, session: str) -> str:
        """Return the verifier key of one session's log, whose name is the log's origin."""
        return verifier_key(ORIGIN_PREFIX + session, self.log_public)

    def witness_vkey(self, user: str, host: str) -> str:
        """Return the verifier key of this user's cosignatures."""
        return verifier_key(witness_name(user, host), self.witness_public, COSIGNATURE)

    @property
    def log_public(self) -> bytes:
        """The public half of `log`, 32 bytes."""
        return self.log.public_key().public_bytes_raw()

    @property
    def witness_public(self) -> bytes:
        """The public half of `witness`, 32 bytes."""
        return self.witness.public_key().public_bytes_raw()

    def __reduce__(self) -> str:
        raise TypeError("Private keys are not pickled.")


def log_mark(folder: Path) -> str:
    """Return the mark of a folder's log key, see `key_mark`; the first call makes that key.

    Parameters
    ----------
    folder : Path
        As for `LogKeys.load`.

    Raises
    ------
    AuditError
        The key can't be read or made, or others may read it.
    """
    key, moment = _load(Path(folder) / LOG_KEY)
    public = key.public_key().public_bytes_raw()
    _say_id(Path(folder), public, moment)
    return key_mark(public)


def said_keys(folder: Path) -> tuple[bytes, ...]:
    """Return the public keys of logs that a folder has or had, as ``log.id`` says, the latest first.

    Parameters
    ----------
    folder : Path
        As for `LogKeys.load`.

    Raises
    ------
    AuditError
        The file is there and can't be read, or others may write it: then nobody knows who named those keys.
    """
    return tuple(public for line in _said(Path(folder)).splitlines() if (public := _public_in(line)))


def refused_key(folder: Path) -> AuditError | None:
    """Return why nothing is signed although a folder has keys: one of them can't be read; None where none is refused.

    Parameters
    ----------
    folder : Path
        As for `LogKeys.load`.
    """
    for name in (LOG_KEY, WITNESS_KEY):
        try:
            _open(Path(folder) / name)
        except FileNotFoundError:
            continue
        except AuditError as error:
            return error
    return None


def public_keys(folder: Path) -> tuple[bytes, bytes]:
    """Return the public keys of a folder, of logs and as a witness, as far as they are known; makes none.

    Where the key of logs can't be read, what is written down of it counts.

    Parameters
    ----------
    folder : Path
        As for `LogKeys.load`.

    Returns
    -------
    tuple of bytes
        32 bytes each; empty where it is not known.
    """
    found: list[bytes] = []
    said: tuple[bytes, ...] = ()
    with contextlib.suppress(AuditError):
        said = said_keys(folder)
    for name, otherwise in ((LOG_KEY, b"".join(said[:1])), (WITNESS_KEY, b"")):
        try:
            key, _ = _open(Path(folder) / name)
            found.append(key.public_key().public_bytes_raw())
        except (AuditError, OSError):
            found.append(otherwise)
    return found[0], found[1]


def keys_folder() -> Path:
    """Return where this user's keys lie."""
    from jupyter_llmops.settings import user_folder  # brings traitlets

    return user_folder() / "keys"


def witness_name(user: str, host: str) -> str:
    """Return the C2SP key name of a witness, e.g. ``jupyter-llmops/ada@lab``."""
    return ORIGIN_PREFIX + _person(user, host)


def verifier_key(name: str, public: bytes, kind: int = ED25519) -> str:
    """Return a C2SP verifier key: its name, key ID and key, with plus signs between.

    Parameters
    ----------
    name : str
        Without spaces and plus signs.
    public : bytes
        32 bytes.
    kind : int
        The signature type: 1 for Ed25519, 4 for cosignatures.
    """
    material = bytes([kind]) + public
    key_id = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
    return f"{name}+{key_id.hex()}+{base64.b64encode(material).decode()}"


def key_mark(public: bytes) -> str:
    """Return what ends the names of sessions whose logs a key signs: ``k`` and 64 bits of its SHA-256."""
    return f"k{hashlib.sha256(public).hexdigest()[:16]}"


def may_sign(session: str, public: bytes) -> bool:
    """Return whether a key can be the one of a session's log, as far as the session's name says it.

    Parameters
    ----------
    session : str
        Its name; one that was given before there was a key says nothing.
    public : bytes
        The key, 32 bytes.
    """
    bound = _BOUND.fullmatch(session)
    return bound is None or bound[1] == key_mark(public)


def public_half(vkey: str) -> bytes:
    """Return the 32 bytes of the public key in a verifier key; empty where it is none.

    Two names of one key have the same.
    """
    try:
        name, _, rest = vkey.partition("+")
        _, _, text = rest.partition("+")
        material = base64.b64decode(text, validate=True)
        whole = len(material) == 33 and verifier_key(name, material[1:], material[0]) == vkey
    except (ValueError, UnicodeError):
        return b""
    return material[1:] if whole else b""


def _person(user: str, host: str) -> str:
    # Neither space nor plus is allowed in a name, and a slash would look like another log's.
    return f"{urllib.parse.quote(user, safe='')}@{urllib.parse.quote(host, safe='')}"


def _load(path: Path) -> tuple[Ed25519PrivateKey, int]:
    """Return the key in a file, which is made where it is missing, and the file's time, in nanoseconds."""
    try:
        return _open(path)
    except FileNotFoundError:
        _make(path)
        return _open(path)


def _open(path: Path) -> tuple[Ed25519PrivateKey, int]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data, moment = _read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"{path} holds no Ed25519 key.", _mend(path))
    return key, moment


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    data = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        put_key(path, data)
    except OSError as error:
        raise AuditError(
            f"The key that signs the trail can't be kept in {path.parent}: {error.strerror}.",
            "Make that folder writable; until then the trail goes on unsigned.",
        ) from None


def _say_id(folder: Path, public: bytes, moment: int) -> None:
    """Write down a folder's key, and its file's time, by which one that was replaced is known."""
    # Each kernel that starts loads the key. One whose former keys somebody else may have named is not overwritten,
    # as the true ones among them would be lost.
    with contextlib.suppress(OSError, AuditError):
        before = _said(folder)
        former = [line for line in before.splitlines() if _public_in(line) not in (b"", public)]
        lines = [f"{key_mark(public)} {moment} {public.hex()}".encode(), *former[:_MOST_FORMER]]
        if (said := b"".join(line + b"\n" for line in lines)) != before:
            put_key(folder / LOG_ID, said, replace=True)


def _said(folder: Path) -> bytes:
    try:
        data, _ = _read(folder / LOG_ID)
    except FileNotFoundError:
        return b""
    return data


def _public_in(line: bytes) -> bytes:
    """Return the public key in a line of ``log.id``, empty where there is none."""
    words = line.split()
    try:
        public = bytes.fromhex(words[2].decode("ascii")) if len(words) == 3 else b""
    except ValueError:
        return b""
    return public if len(public) == 32 and key_mark(public).encode() == words[0] else b""


def _read(path: Path) -> tuple[bytes, int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        hint = (
            f"Type !chmod 600 {path} if it is yours." if isinstance(error, PermissionError) else _mend(path)
        )
        raise AuditError(f"The key {path} can't be read: {error.strerror}.", hint) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AuditError(f"{path} is no file that holds a key.", _mend(path))
        if path.name == LOG_ID and status.st_mode & 0o022:
            raise AuditError(
                f"Others may write {path}, which names the keys that sign the trail.",
                f"Type !chmod 600 {path} if nobody did, or move it away.",
            )
        if path.name != LOG_ID and status.st_mode & 0o077:
            raise AuditError(
                f"Others may read or write the key {path}.", f"Type !chmod 600 {path} if nobody did."
            )
        return os.read(descriptor, _LARGEST_FILE), status.st_mtime_ns
    finally:
        os.close(descriptor)


def _mend(path: Path) -> str:
    if path.name == LOG_ID:
        return f"Move {path} away: it is made anew then, without the keys that were replaced."
    return f"Move {path} away: a new key is made then, which signs new sessions only."
