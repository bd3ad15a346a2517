"""OpenSSF signatures: verified whenever a model's files are read, with real keys."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, MissingDependencyError, SettingsError
from jupyter_llmops.inference import signing
from jupyter_llmops.inference.scan import scan
from jupyter_llmops.inference.signing import sign, trust
from jupyter_llmops.inference.sources import digest_of, resolve
from jupyter_llmops.records.model import Model
from jupyter_llmops.settings import LLMOps
from jupyter_llmops.workspace.parts import Parts


@pytest.fixture(autouse=True)
def nobody_is_trusted() -> Iterator[None]:
    trust()
    yield
    trust()


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "signed")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two pairs of keys: team.key, team.pem, other.key, other.pem."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    place = tmp_path_factory.mktemp("keys")
    made = {"team": ec.generate_private_key(ec.SECP256R1()), "other": ec.generate_private_key(ec.SECP384R1())}
    for name, key in {**made, "ed": ed25519.Ed25519PrivateKey.generate()}.items():
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (place / f"{name}.key").write_bytes(private)
        (place / f"{name}.pem").write_bytes(public)
    return place


def signer_of(path: Path, tmp_path: Path) -> str:
    return digest_of(resolve(str(path)), tmp_path / "models").signed_by


def test_a_trusted_signature_names_its_key(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "other.pem"), str(keys / "team.pem")])
    said = signer_of(folder, tmp_path)
    assert said.startswith("key ")
    assert "not verified" not in said


def test_an_unsigned_model_has_no_signer(folder: Path, tmp_path: Path) -> None:
    assert signer_of(folder, tmp_path) == ""


@pytest.mark.parametrize("changed", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_changed_file_is_refused(folder: Path, keys: Path, tmp_path: Path, changed: str) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "team.pem")])
    assert signer_of(folder, tmp_path)
    data = (folder / changed).read_bytes()
    (folder / changed).write_bytes(data + b" ")
    with pytest.raises(
        InferenceError, match=rf"does not fit its files; it is not loaded\. {changed} was changed"
    ):
        signer_of(folder, tmp_path)
    (folder / changed).write_bytes(data)
    assert signer_of(folder, tmp_path)


def test_a_file_that_was_not_signed_is_not_loaded(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "team.pem")])
    (folder / "README.md").write_text("No part of what is loaded.")
    assert signer_of(folder, tmp_path)
    (folder / "special_tokens_map.json").write_text('{"eos_token": "planted"}')
    with pytest.raises(InferenceError, match=r"leaves out special_tokens_map\.json"):
        signer_of(folder, tmp_path)


def test_a_missing_file_is_refused(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "team.pem")])
    (folder / "generation_config.json").unlink()
    with pytest.raises(InferenceError, match="does not fit"):
        signer_of(folder, tmp_path)


def test_a_signature_of_another_model_is_refused(folder: Path, keys: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "config.json").write_text("{}")
    shutil.copy(sign(other, keys / "team.key"), folder / "model.sig")
    trust([str(keys / "team.pem")])
    with pytest.raises(InferenceError, match="does not fit"):
        signer_of(folder, tmp_path)


def test_a_key_that_only_claims_to_be_the_trusted_one_is_refused(
    folder: Path, keys: Path, tmp_path: Path
) -> None:
    sign(folder, keys / "team.key")
    trusted_hint = json.loads((folder / "model.sig").read_text())["verificationMaterial"]["publicKey"]["hint"]
    (folder / "model.sig").unlink()
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    forged = json.loads(sign(folder, keys / "other.key").read_text())
    forged["verificationMaterial"]["publicKey"]["hint"] = trusted_hint
    (folder / "model.sig").write_text(json.dumps(forged))
    trust([str(keys / "team.pem")])
    with pytest.raises(InferenceError, match="does not fit"):
        signer_of(folder, tmp_path)


def test_a_key_that_nobody_knows_is_said_and_refused_on_wish(
    folder: Path, keys: Path, tmp_path: Path
) -> None:
    sign(folder, keys / "other.key")
    trust([str(keys / "team.pem")])
    assert "(not verified: not in LLMOps.trusted_keys)" in signer_of(folder, tmp_path)
    trust([str(keys / "team.pem")], required=True)
    with pytest.raises(InferenceError, match=r"not trusted here.*LLMOps\.trusted_keys"):
        signer_of(folder, tmp_path)


def test_unsigned_models_are_refused_on_wish(folder: Path, keys: Path, tmp_path: Path) -> None:
    trust([str(keys / "team.pem")], required=True)
    with pytest.raises(InferenceError, match=r"is not signed, and LLMOps\.require_signed_models is on"):
        signer_of(folder, tmp_path)


def test_without_the_package_a_signature_is_said(
    folder: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "team.pem")])
    for name in [name for name in sys.modules if name.partition(".")[0] == "model_signing"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    assert "model-signing is not installed" in signer_of(folder, tmp_path)
    trust([str(keys / "team.pem")], required=True)
    with pytest.raises(MissingDependencyError, match=r"jupyter-llmops\[signing\]"):
        signer_of(folder, tmp_path)


@pytest.mark.parametrize(
    "junk", [b"", b"{}", b"[1]", b'{"verificationMaterial": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_signature_is_refused(folder: Path, tmp_path: Path, junk: bytes) -> None:
    (folder / "model.sig").write_bytes(junk)
    with pytest.raises(InferenceError, match=r"signature of the model .* can't be read"):
        signer_of(folder, tmp_path)


def test_a_single_file_is_signed_beside_it(tiny_gguf: Path, keys: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_gguf, tmp_path / "tiny.gguf"))
    assert sign(path, keys / "team.key") == tmp_path / "tiny.gguf.sig"
    trust([str(keys / "team.pem")])
    assert "not verified" not in signer_of(path, tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InferenceError, match="does not fit"):
        signer_of(path, tmp_path)


def test_links_of_the_hubs_cache_are_followed(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign(folder, keys / "team.key")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    trust([str(keys / "team.pem")])
    assert "not verified" not in signer_of(snapshot, tmp_path)


def test_a_certificate_of_a_trusted_authority_counts(folder: Path, tmp_path: Path) -> None:
    from model_signing.signing import Config

    leaf_key, leaf, authority = _certificates(tmp_path)
    Config().use_certificate_signer(
        private_key=leaf_key, signing_certificate=leaf, certificate_chain=[authority]
    ).sign(folder, folder / "model.sig")
    trust([str(authority)])
    assert signer_of(folder, tmp_path) == "certificate of CN=Team Release"
    (tmp_path / "elsewhere").mkdir()
    trust([str(_certificates(tmp_path / "elsewhere")[2])])
    with pytest.raises(InferenceError, match="does not fit"):
        signer_of(folder, tmp_path)


@pytest.mark.parametrize(
    ("key", "said"), [("none.pem", "can't be read"), ("ed.pem", "not an elliptic-curve key")]
)
def test_a_trusted_key_that_can_not_be_used_is_said(
    folder: Path, keys: Path, tmp_path: Path, key: str, said: str
) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / key)])
    with pytest.raises(SettingsError, match=said):
        signer_of(folder, tmp_path)


def test_files_are_hashed_once_as_long_as_nothing_changed(
    folder: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "team.pem")])
    said = signer_of(folder, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(signing, "_verify", lambda *_: pytest.fail("verified again"))
        assert signer_of(folder, tmp_path) == said
    (folder / "tokenizer.json").write_text("{}")
    os.utime(folder / "tokenizer.json", ns=(1, 1))
    with pytest.raises(InferenceError, match="does not fit"):
        signer_of(folder, tmp_path)


def test_a_scan_names_the_signer_and_leaves_out_what_does_not_fit(
    folder: Path, keys: Path, tmp_path: Path
) -> None:
    sign(folder, keys / "team.key")
    trust([str(keys / "team.pem")])
    problems: list[str] = []

    def found() -> list[Model]:
        place = [str(folder)]
        return list(scan(place, site="here", models_folder=tmp_path / "models", on_problem=problems.append))

    assert found()[0].signed_by == signer_of(folder, tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    assert found() == []
    assert "tokenizer.json was changed" in problems[0]


def test_the_settings_decide_whom_to_trust(folder: Path, keys: Path, tmp_path: Path) -> None:
    sign(folder, keys / "other.key")
    settings = LLMOps(trusted_keys=[str(keys / "team.pem")], require_signed_models=True)
    Parts(settings, tmp_path / "catalog")
    with pytest.raises(InferenceError, match="not trusted here"):
        signer_of(folder, tmp_path)
    settings.trusted_keys = [str(keys / "other.pem")]  # %config LLMOps.trusted_keys = […]
    assert "not verified" not in signer_of(folder, tmp_path)


def _certificates(place: Path) -> tuple[Path, Path, Path]:
    """Return a signing key, its certificate, and the certificate of the authority that issued it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = dt.datetime.now(dt.UTC)
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.CertificateBuilder:
        usage = x509.KeyUsage(
            digital_signature=not ca, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Team Authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
            )
        )

    root = certificate("Team Authority", root_key, ca=True).sign(root_key, hashes.SHA256())
    signing_use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    leaf = (
        certificate("Team Release", leaf_key, ca=False)
        .add_extension(signing_use, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    paths = place / "leaf.key", place / "leaf.crt", place / "authority.crt"
    private = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[0].write_bytes(private)
    paths[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(root.public_bytes(serialization.Encoding.PEM))
    return paths
