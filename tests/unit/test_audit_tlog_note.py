"""Notes, checkpoints, cosignatures and proofs: the examples of the specifications, and every byte of ours."""

import base64
from contextlib import suppress
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.cosignature import cosign, verify_cosignature
from jupyter_llmops.audit.tlog.merkle import leaf_hash
from jupyter_llmops.audit.tlog.note import (
    Note,
    Signature,
    format_note,
    parse_note,
    parse_signature,
    parse_vkey,
    sign_note,
    verify_note,
    vkey,
)
from jupyter_llmops.audit.tlog.proof import InclusionProof, format_proof, parse_proof, verify_proof

# c2sp.org/signed-note, section "Example"
EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Z"
    "tg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)

LOG = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
WITNESS = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
ORIGIN = "jupyter-llmops/20261122T101112-4711-abcdef"
WITNESS_NAME = "jupyter-llmops/grace@host"
LOG_VKEY = vkey(ORIGIN, LOG.public_key())
WITNESS_VKEY = vkey(WITNESS_NAME, WITNESS.public_key(), 4)
LEAF = b'{"schema":"llmops.leaf/2"}'
CHECKPOINT = Checkpoint(ORIGIN, 1, leaf_hash(LEAF))
SIGNED = sign_note(CHECKPOINT.text, ORIGIN, LOG)
COSIGNED = Note(SIGNED.text, (*SIGNED.signatures, cosign(SIGNED.text, WITNESS_NAME, WITNESS, 1_790_000_000)))


def test_the_example_of_the_specification_verifies_under_its_key():
    note = parse_note(EXAMPLE)
    assert verify_note(note, [EXAMPLE_VKEY]) == ("example.com/foo",)
    assert format_note(note) == EXAMPLE.encode()
    key = parse_vkey(EXAMPLE_VKEY)
    assert str(key) == EXAMPLE_VKEY == vkey(key.name, key.public)


def test_a_note_says_who_signed_it():
    note = parse_note(format_note(COSIGNED))
    assert note == COSIGNED
    assert verify_note(note, [LOG_VKEY]) == (ORIGIN,)
    assert verify_note(note, [WITNESS_VKEY, LOG_VKEY]) == (ORIGIN, WITNESS_NAME)
    assert verify_note(note, [vkey("somebody/else", LOG.public_key())]) == ()
    assert verify_note(note, [vkey(ORIGIN, WITNESS.public_key())]) == ()


def test_a_text_may_hold_empty_lines():
    note = sign_note("one\n\ntwo\n\n\n", ORIGIN, LOG)
    assert parse_note(format_note(note)) == note
    assert verify_note(note, [LOG_VKEY]) == (ORIGIN,)


def test_one_false_signature_of_a_known_key_discredits_the_note():
    false = replace(COSIGNED.signatures[1], data=COSIGNED.signatures[1].data[:-1] + b"\0")
    note = Note(COSIGNED.text, (COSIGNED.signatures[0], false))
    assert verify_note(note, [LOG_VKEY]) == (ORIGIN,)
    assert verify_note(note, [LOG_VKEY, WITNESS_VKEY]) == ()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"\n\n", EXAMPLE.encode()[:-1], EXAMPLE.encode() + b"\n", EXAMPLE.encode() + b"x\n",
        EXAMPLE.replace("\n\n", "\n").encode(), EXAMPLE.replace("—", "-").encode(),
        EXAMPLE.replace("— ", "—  ").encode(), EXAMPLE.replace("foo ", "foo\u2003").encode(),
        EXAMPLE.replace("/foo ", "/fo+o ").encode(), EXAMPLE.replace("example.com/foo ", " ").encode(),
        EXAMPLE.replace("M=", "N=").encode(), EXAMPLE.replace("M=", "M").encode(),
        EXAMPLE.replace("M=", "M==").encode(), EXAMPLE.replace("n8", "n-").encode(),
        EXAMPLE.replace("\n", "\r\n").encode(), EXAMPLE.encode("utf-16"), b"\xff\n\n" + EXAMPLE[-60:].encode(),
        EXAMPLE.replace("This", "Th\x00s").encode(), EXAMPLE.replace("This", "Th\x1bs").encode(),
        "text\n\n— name AAAA\n".encode(), b"x" * 1_000_001, b"text\n\n" + "— a AAAAAAA=\n".encode() * 101,
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_note_is_refused(data):
    with pytest.raises(ValueError, match=r"note|signature|base64|name"):
        parse_note(data)


def test_a_note_of_lone_surrogates_is_refused():
    with pytest.raises(ValueError, match="UTF-8"):
        parse_note("\ud800" + EXAMPLE)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_byte_of_a_signed_note_can_be_changed(data):
    original = format_note(COSIGNED)
    changed = bytearray(original)
    place = data.draw(st.integers(0, len(original) - 1))
    changed[place] = data.draw(st.integers(0, 255))
    try:
        note = parse_note(bytes(changed))
    except ValueError:
        return
    names = verify_note(note, [LOG_VKEY, WITNESS_VKEY])
    # What reads otherwise is a note without one of the two signatures, or without both.
    assert bytes(changed) == original or names in {(), (ORIGIN,), (WITNESS_NAME,)}
    assert format_note(note) == bytes(changed)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_a_parser_raise_another_error(data):
    for parse in (parse_note, parse_proof, lambda x: parse_checkpoint(x.decode("latin-1")),
                  lambda x: parse_vkey(x.decode("latin-1")), lambda x: parse_signature(x.decode("latin-1"))):  # fmt: skip
        with suppress(ValueError):
            parse(data)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u00a0b", "a\x1fb", "a\x00", "a\ud800"])
def test_a_name_that_would_break_a_line_is_no_key_name(name):
    with pytest.raises(ValueError, match="name of a key"):
        sign_note("text\n", name, LOG)
    with pytest.raises(ValueError, match="name of a key"):
        cosign(CHECKPOINT.text, name, WITNESS, 1)
    with pytest.raises(ValueError, match="name of a key"):
        vkey(name, LOG.public_key())


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a+b", EXAMPLE_VKEY[:-1], EXAMPLE_VKEY + "=", EXAMPLE_VKEY.replace("530d", "530D"),
        EXAMPLE_VKEY.replace("530d903a", "00000000"), EXAMPLE_VKEY.replace("foo", "bar"),
        EXAMPLE_VKEY.replace("+Ae", "+Be"), EXAMPLE_VKEY + "\n",
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_verifier_key_is_refused(text):
    with pytest.raises(ValueError, match=r"name of a key|base64|Ed25519|belong"):
        parse_vkey(text)


# The eight points of small order (RFC 7748, section 7), in all their spellings.
WEAK = [
    y.to_bytes(32, "little")
    for p in [2**255 - 19]
    for low in (
        0, 1, p - 1, p, p + 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    )
    for y in (low, low | 1 << 255)
]  # fmt: skip


@pytest.mark.parametrize("public", WEAK, ids=lambda public: public.hex()[:8])
def test_a_key_with_which_anybody_can_sign_is_refused(public):
    text = vkey("weak", public, 4)
    with pytest.raises(ValueError, match="anybody can sign"):
        parse_vkey(text)


def test_text_that_would_be_read_otherwise_is_not_written():
    signature = SIGNED.signatures[0]
    for note in (Note("no newline", (signature,)), Note("text\n", ()), Note("bell\x07\n", (signature,))):
        with pytest.raises(ValueError, match=r"note|control"):
            format_note(note)


def test_a_checkpoint_is_three_lines():
    root = base64.b64encode(leaf_hash(LEAF)).decode()
    assert CHECKPOINT.text == f"{ORIGIN}\n1\n{root}\n"
    assert parse_checkpoint(CHECKPOINT.text) == CHECKPOINT
    assert parse_checkpoint(CHECKPOINT.text + "more\n").extensions == ("more",)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1], lambda t: t + "\n", lambda t: "\n" + t, lambda t: t.replace("\n1\n", "\n01\n"),
        lambda t: t.replace("\n1\n", "\n-1\n"), lambda t: t.replace("\n1\n", "\n+1\n"),
        lambda t: t.replace("\n1\n", "\n١\n"), lambda t: t.replace("\n1\n", "\n\n"),
        lambda t: t.replace("\n1\n", "\n 1\n"), lambda t: t.replace("\n1\n", f"\n{2**63}\n"),
        lambda t: t.replace("\n1\n", f"\n{'9' * 5000}\n"), lambda t: t.replace("=\n", "\n"),
        lambda t: t.replace("=\n", "==\n"), lambda t: f"{ORIGIN}\n1\nAAAA\n", lambda t: f"{ORIGIN}\n1\n",
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_checkpoint_is_refused(change):
    with pytest.raises(ValueError, match=r"checkpoint|size|root|base64"):
        parse_checkpoint(change(CHECKPOINT.text))


def test_a_cosignature_says_when_and_holds_for_its_checkpoint_and_key_alone():
    signature = cosign(CHECKPOINT.text, WITNESS_NAME, WITNESS, 1_790_000_000)
    assert parse_signature(signature.line) == signature
    assert verify_cosignature(CHECKPOINT.text, signature, WITNESS_VKEY) == 1_790_000_000
    later = (1_790_000_001).to_bytes(8) + signature.data[8:]
    other = Checkpoint(ORIGIN, 2, CHECKPOINT.root).text
    assert verify_cosignature(CHECKPOINT.text, replace(signature, data=later), WITNESS_VKEY) is None
    assert verify_cosignature(other, signature, WITNESS_VKEY) is None
    assert verify_cosignature(CHECKPOINT.text, signature, vkey(WITNESS_NAME, LOG.public_key(), 4)) is None
    assert verify_cosignature(CHECKPOINT.text, signature, vkey(WITNESS_NAME, WITNESS.public_key(), 1)) is None
    assert verify_cosignature(CHECKPOINT.text, SIGNED.signatures[0], LOG_VKEY) is None
    for length in (0, 4, 8, 71, 73):
        short = Signature(signature.name, signature.key_id, (signature.data * 2)[:length])
        assert verify_cosignature(CHECKPOINT.text, short, WITNESS_VKEY) is None


def test_a_time_beyond_the_specification_does_not_count():
    for timestamp, counts in ((2**63 - 1, True), (2**63, False)):
        message = f"cosignature/v1\ntime {timestamp}\n{CHECKPOINT.text}".encode()
        data = timestamp.to_bytes(8) + WITNESS.sign(message)
        signature = Signature(WITNESS_NAME, parse_vkey(WITNESS_VKEY).key_id, data)
        assert (verify_cosignature(CHECKPOINT.text, signature, WITNESS_VKEY) == timestamp) is counts


@pytest.mark.parametrize("timestamp", [-1, 2**63])
def test_a_time_that_is_none_is_not_signed(timestamp):
    with pytest.raises(ValueError, match="no time"):
        cosign(CHECKPOINT.text, WITNESS_NAME, WITNESS, timestamp)
    with pytest.raises(ValueError, match="checkpoint"):
        cosign("text\n", WITNESS_NAME, WITNESS, 1)


def test_a_proof_is_read_as_it_was_written_and_proves_its_leaf():
    for extra in (None, b"", LEAF):
        proof = InclusionProof(0, (), format_note(COSIGNED), extra)
        assert parse_proof(format_proof(proof)) == proof
        assert verify_proof(proof, LEAF, [LOG_VKEY]) == CHECKPOINT
        assert verify_proof(proof, LEAF + b" ", [LOG_VKEY]) is None
        assert verify_proof(proof, LEAF, [EXAMPLE_VKEY]) is None
        assert verify_proof(replace(proof, index=1), LEAF, [LOG_VKEY]) is None


def test_a_proof_holds_under_the_key_of_its_own_log_only():
    proof = InclusionProof(0, (), format_note(COSIGNED))
    assert verify_proof(proof, LEAF, [WITNESS_VKEY]) is None
    # One key signs all logs of its owner: the same signature under the name of another one.
    other = parse_vkey(vkey("jupyter-llmops/another", LOG.public_key()))
    renamed = Signature(other.name, other.key_id, SIGNED.signatures[0].data)
    proof = replace(proof, checkpoint=format_note(Note(SIGNED.text, (renamed,))))
    assert verify_note(parse_note(proof.checkpoint), [other])
    assert verify_proof(proof, LEAF, [str(other), LOG_VKEY]) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p[1:], lambda p: p.replace(b"v1", b"v2"), lambda p: p.replace(b"index 0", b"index 00"),
        lambda p: p.replace(b"index 0", b"index -1"), lambda p: p.replace(b"index 0\n", b""),
        lambda p: p.replace(b"index 0", b"index"), lambda p: p.replace(b"index", b"Index"),
        lambda p: p.replace(b"extra", b"extra  "), lambda p: p.replace(b"index 0", b"index 0\nAAAA"),
        lambda p: p.replace(b"\n\n", b"\n", 1), lambda p: p.replace(b"\n\n", b"\n\n\n", 1),
        lambda p: p.replace(b"index 0", b"index 0" + (b"\n" + base64.b64encode(b"h" * 32)) * 64),
        lambda p: p[:-1], lambda p: p + b"\n", lambda p: p.replace(b"\n", b"\r\n"), lambda p: b"\xff" + p,
        lambda p: p.replace(b"\n1\n", b"\nx\n"),
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_proof_is_refused(change):
    data = format_proof(InclusionProof(0, (), format_note(COSIGNED), LEAF))
    with pytest.raises(ValueError, match=r"[a-z]"):
        parse_proof(change(data))
