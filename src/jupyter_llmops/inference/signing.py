"""OpenSSF model signatures beside a model's files: https://github.com/ossf/model-signing-spec.

A signature is trusted when its key or certificate is: `trust` says which are. Without that, a signature
says nothing, as anybody can sign anything again; it is named and not relied on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import InferenceError, MissingDependencyError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from model_signing import hashing

    from jupyter_llmops.inference.sources import ModelFiles

SIGNATURE_NAME = "model.sig"
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count.

    Parameters
    ----------
    keys : tuple of str
        Paths of PEM files: public keys (P-256, P-384, P-521) or certificates of authorities.
    required : bool
        Refuse every model that none of them signed.
    """

    keys: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature file: who says to have signed, how files were hashed, and which."""

    path: Path
    hint: str
    certificate: bytes
    serialization: dict[str, Any]
    names: frozenset[str]


_trust = Trust()
_verified: dict[str, str] = {}
_lock = threading.Lock()


def trust(keys: Sequence[str] = (), *, required: bool = False) -> None:
    """Set for this process whose signatures count; a model is checked against it whenever it is loaded.

    Parameters
    ----------
    keys : sequence of str
        As `Trust.keys`.
    required : bool
        As `Trust.required`.
    """
    global _trust  # noqa: PLW0603 - one user, one policy: no caller that loads a model can forget it
    _trust = Trust(tuple(keys), required)


def signature_beside(files: ModelFiles) -> Path | None:
    """Return the signature file of a model: ``model.sig`` in its folder, ``NAME.sig`` beside a single file."""
    places = [files.root / SIGNATURE_NAME]
    if files.kind != "folder":
        places.insert(0, files.path.with_name(f"{files.path.name}.sig"))
    return next((place for place in places if place.is_file()), None)


def verify_signature(files: ModelFiles, name: str) -> str:
    """Return who signed a model's files, verified; empty when nobody did.

    Parameters
    ----------
    files : ModelFiles
        From `sources.locate`.
    name : str
        The model's, for messages.

    Returns
    -------
    str
        ``key 0123456789abcdef`` or ``certificate of NAME``. A signer who is not trusted, or can't be
        checked here, is named with "(not verified: …)".

    Raises
    ------
    InferenceError
        The signature does not fit the files, or there is none that is trusted and one is required.
    MissingDependencyError
        One is required and the model-signing package is not installed.
    SettingsError
        A trusted key can't be read.
    """
    place = signature_beside(files)
    if place is None:
        if _trust.required:
            raise InferenceError(
                f"The model {name!r} is not signed, and LLMOps.require_signed_models is on.",
                "Have it signed with the model-signing package, or switch that off.",
            )
        return ""
    known = _state_of(files, place)
    with _lock:
        if known not in _verified:
            _verified[known] = _verify(files, place, name)
        return _verified[known]


def sign(folder: Path, private_key: Path, signature: Path | None = None) -> Path:
    """Sign a folder (or a file) with a key of one's own, and return the signature file.

    Parameters
    ----------
    folder : Path
        What to sign: every file in it, or a single file.
    private_key : Path
        PEM file of an elliptic-curve key (P-256, P-384, P-521) without a password.
    signature : Path, optional
        Where to write; where `verify_signature` looks by default.

    Raises
    ------
    MissingDependencyError
        The model-signing package is not installed.
    InferenceError
        The key or a file can't be read.
    """
    beside = folder / SIGNATURE_NAME if folder.is_dir() else folder.with_name(f"{folder.name}.sig")
    target = signature or beside
    try:
        from model_signing import hashing, signing
    except ImportError:
        raise MissingDependencyError("Signing a model", "signing") from None
    ignored = [target] if folder.is_dir() else []
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=ignored)).sign(folder, target)
    except (OSError, ValueError, TypeError) as error:
        raise InferenceError(
            f"{folder} can't be signed: {_line(error)}", "Check the key and the files."
        ) from error
    return target


def _verify(files: ModelFiles, place: Path, name: str) -> str:
    signature = _read(place, name)
    who = _claimed(signature)
    try:
        import model_signing.verifying
    except ImportError:
        if _trust.required:
            raise MissingDependencyError("Verifying the signature of a model", "signing") from None
        return f"{who} (not verified: the package model-signing is not installed)"
    keys, certificates = _trusted()
    config = model_signing.verifying.Config()
    if signature.certificate and certificates:
        config.use_certificate_verifier(certificate_chain=certificates)
    elif not signature.certificate and signature.hint in keys:
        config.use_elliptic_key_verifier(public_key=keys[signature.hint])
    elif _trust.required:
        raise InferenceError(
            f"The model {name!r} is signed by {who}, which is not trusted here.",
            "Add the PEM file of its key to LLMOps.trusted_keys, or take another model.",
        )
    else:
        return f"{who} (not verified: not in LLMOps.trusted_keys)"
    _check(config, signature, files, name)
    return who


def _check(config: Any, signature: _Signature, files: ModelFiles, name: str) -> None:
    """Check the signature and every signed file, and that no file which is loaded was left out of it."""
    single = signature.path.name != SIGNATURE_NAME
    target = files.path if single else files.root
    try:
        config.set_ignore_unsigned_files(ignore_unsigned_files=True)
        config.set_hashing_config(_hashing(signature.serialization))
        with contextlib.redirect_stdout(io.StringIO()):  # it prints warnings
            config.verify(target, signature.path)
    except (
        Exception
    ) as error:  # the library has no tree of its own: ValueError, InvalidSignature, KeyError, …
        raise InferenceError(
            f"The signature of the model {name!r} does not fit its files; it is not loaded.",
            f"{_what_differs(error)} Fetch the model again.",
        ) from error
    needed = ["."] if single else [file.relative_to(target).as_posix() for file in files.files]
    left_out = [file for file in needed if file not in signature.names]
    left_out += [file.name for file in files.files if single and file != files.path]
    if left_out:
        raise InferenceError(
            f"The signature of the model {name!r} leaves out {left_out[0]}; it is not loaded.",
            "Remove that file, or have the whole model signed.",
        )


def _what_differs(error: Exception) -> str:
    """Return the first file that the library complains of, in words; it prints digests as Python objects."""
    changed = re.search(r"Hash mismatch for \\?'([^'\\]{1,200})", str(error))
    if changed:
        return f"{changed[1].partition(':')[0]} was changed."
    missing = re.search(r"Missing files in model [^:]*: ([^,'\"]{1,200})", str(error))
    return f"{missing[1]} is missing." if missing else _line(error)


def _hashing(serialization: dict[str, Any]) -> hashing.Config:
    """Return how the signer hashed files; links are read, as the hub's cache is made of them."""
    from model_signing import hashing

    config = hashing.Config()
    algorithm = serialization.get("hash_type", "sha256")
    if serialization.get("method") == "shards":
        config.use_shard_serialization(
            hashing_algorithm=algorithm, shard_size=int(serialization["shard_size"]), allow_symlinks=True
        )
    else:
        config.use_file_serialization(hashing_algorithm=algorithm, allow_symlinks=True)
    return config.set_allow_symlinks(True)


def _read(place: Path, model: str) -> _Signature:
    try:
        bundle = json.loads(place.read_bytes()) if place.stat().st_size <= _MOST_BYTES else {}
        material = bundle["verificationMaterial"]
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        predicate = statement["predicate"]
        serialization = dict(predicate.get("serialization", {}))
        names = [str(one["name"]) for one in predicate["resources"]]
        if serialization.get("method") == "shards":  # NAME:START:END
            names = [name.rsplit(":", 2)[0] for name in names]
        chain = material.get("x509CertificateChain", {}).get("certificates", [])
        single = [material["certificate"]] if "certificate" in material else chain[:1]
        return _Signature(
            place,
            str(material.get("publicKey", {}).get("hint", "")),
            base64.b64decode(single[0]["rawBytes"]) if single else b"",
            serialization,
            frozenset(names),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InferenceError(
            f"The signature of the model {model!r} can't be read: {place}", "Fetch the model again."
        ) from error


def _claimed(signature: _Signature) -> str:
    """Return who a signature says to be from."""
    if not signature.certificate:
        return f"key {signature.hint[:16]}" if signature.hint else "an unnamed key"
    try:
        from cryptography import x509

        subject = x509.load_der_x509_certificate(signature.certificate).subject.rfc4514_string()
    except (ImportError, ValueError):
        subject = hashlib.sha256(signature.certificate).hexdigest()[:16]
    return f"certificate of {subject or 'an identity of sigstore'}"


def _trusted() -> tuple[dict[str, Path], list[Path]]:
    """Return the trusted keys by the hash that signatures name them with, and the trusted certificates."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys: dict[str, Path] = {}
    certificates: list[Path] = []
    for text in _trust.keys:
        path = Path(text).expanduser()
        try:
            pem = path.read_bytes()
            if b"BEGIN CERTIFICATE" in pem:
                certificates.append(path)
                continue
            key = serialization.load_pem_public_key(pem)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The trusted key {path} can't be read: {_line(error)}", "Correct LLMOps.trusted_keys."
            ) from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise SettingsError(
                f"The trusted key {path} is not an elliptic-curve key (P-256, P-384 or P-521).",
                "Correct LLMOps.trusted_keys.",
            )
        keys[_hint(key)] = path
    return keys, certificates


def _hint(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _state_of(files: ModelFiles, place: Path) -> str:
    """Return what stays the same as long as a verification holds: the files, the signature, the policy."""
    facts: list[Any] = [str(place), hashlib.sha256(place.read_bytes()).hexdigest(), repr(_trust)]
    for path in [*files.files, *(Path(key).expanduser() for key in _trust.keys)]:
        with contextlib.suppress(OSError):
            status = path.stat()
            facts.append([str(path), status.st_size, status.st_mtime_ns, status.st_ino])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _line(error: BaseException) -> str:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return said if said.endswith(".") else f"{said}."
