"""Views of proofs and of the keys that check them."""

from __future__ import annotations

from shlex import quote
from typing import Any

from jupyter_llmops.display.elements import ABSENT, Html, card, code, html, moment
from jupyter_llmops.records.trail import Proof, Signer

_NEEDS = "it needs Python and its package cryptography, nothing of ours"
_WHAT = {"log": "heads of own logs", "witness": "heads of others' logs"}


def _since(signer: Signer) -> str:
    return f"{signer.created_at:%Y-%m-%d}"


SIGNER_COLUMNS: tuple[tuple[str, Any, Any, bool], ...] = (
    ("who", lambda s: f"{s.user}@{s.host}", lambda s: f"{s.user}@{s.host}", False),
    ("signs", lambda s: _WHAT[s.kind], lambda s: _WHAT[s.kind], False),
    ("verifier key", lambda s: s.vkey, lambda s: code(s.vkey), False),
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
            "to check it",
            f"python {quote(proof.checker or 'check_proof.py')} {quote(proof.path)} {quote(proof.vkey)}",
        ),
        (
            "",
            _NEEDS
            if proof.checker
            else f"%audit prove {proof.run_id} --checker writes that script; {_NEEDS}",
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
    rows = "".join(
        f'<tr><td style="padding:1px 14px 1px 0;text-align:left;opacity:.75;white-space:nowrap">{html(name)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{html(value)}</td></tr>'
        for name, value in _facts(proof)
    )
    return card(
        Html(f'<table style="border-collapse:collapse">{rows}</table>'),
        title=f"Proof of run {proof.run_id}",
        footer="Whoever checks it gets the verifier keys from you and your witnesses, not from the file.",
    )
