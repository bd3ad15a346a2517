"""Views of proofs and of the keys that check them."""

from __future__ import annotations

from shlex import quote
from typing import Any

from jupyter_llmops.display.elements import ABSENT, Html, card, code, moment
from jupyter_llmops.records.trail import Proof, Signer

_CHECKER = "check_proof.py"
_TO_COPY = ("verifier key", "to check it")
_WHAT = {"log": "heads of own logs", "witness": "heads of others' logs"}


def _since(signer: Signer) -> str:
    return f"{signer.created_at:%Y-%m-%d}"


SIGNER_COLUMNS: tuple[tuple[str, Any, Any, bool], ...] = (
    ("who", lambda s: f"{s.user}@{s.host}", lambda s: f"{s.user}@{s.host}", False),
    ("signs", lambda s: _WHAT[s.kind], lambda s: _WHAT[s.kind], False),
    (
        "verifier key",
        lambda s: s.vkey,
        lambda s: Html(f'<div style="overflow-wrap:anywhere">{code(s.vkey)}</div>'),
        False,
    ),
    ("since", _since, lambda s: moment(s.created_at), False),
)


def _facts(proof: Proof) -> list[tuple[str, str]]:
    return [
        ("file", proof.path),
        (
            "proof",
            f"{proof.size_bytes:,} bytes beside the record itself, one of {proof.tree_size:,} in its log",
        ),
        ("witnesses", ", ".join(proof.witnesses) or f"{ABSENT} (no second key has signed this head)"),
        ("verifier key", proof.vkey),
        (
            "checker",
            (proof.checker or f"%audit prove {proof.run_id} --checker writes {_CHECKER}")
            + "; it needs Python and its package cryptography, nothing of ours",
        ),
        (
            "to check it",
            f"python {quote(proof.checker or _CHECKER)} {quote(proof.path)} {quote(proof.vkey)}",
        ),
    ]


def proof_text(proof: Proof) -> str:
    """Return a proof as lines, with the key and how to check it."""
    facts = _facts(proof)
    width = max(len(name) for name, _ in facts)
    return "\n".join(
        [f"proof of run {proof.run_id}", *(f"  {name.ljust(width)}  {value}" for name, value in facts)]
    )


def proof_html(proof: Proof) -> str:
    """Return a proof as a card, with the key and how to check it."""
    from jupyter_llmops.display.registry import facts_table  # which takes the columns of keys from here

    facts = [(name, code(value) if name in _TO_COPY else value) for name, value in _facts(proof)]
    return card(
        facts_table(facts),
        title=f"Proof of run {proof.run_id}",
        footer="Whoever checks it gets the verifier keys from you and your witnesses, not from the file.",
    )
