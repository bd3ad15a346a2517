"""Views of the workspace's state, a check-up, and a reproduction."""

from __future__ import annotations

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_ERROR,
    COLOR_OK,
    COLOR_WARN,
    STATUS_MARKS,
    Html,
    card,
    code,
    duration,
    html,
    pre,
    status,
    table,
)
from jupyter_llmops.records.reproduction import Difference, Reproduction
from jupyter_llmops.records.status import Checkup, WorkspaceStatus


def workspace_line(state: WorkspaceStatus) -> str:
    """Return the one line that `%load_ext` prints."""
    audit = f"audit session {state.session}" if state.session else "audit off"
    return f"jupyter_llmops {state.version} · catalog {state.catalog} · model {state.model} · {audit}"


def workspace_text(state: WorkspaceStatus) -> str:
    """Return the status card for a terminal."""
    facts = _facts(state)
    width = max(len(name) for name, _ in facts)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts)


def workspace_html(state: WorkspaceStatus) -> str:
    """Return the status card."""
    rows = "".join(
        f'<tr><td style="padding:2px 14px 2px 0;text-align:left;opacity:.75">{html(name)}</td>'
        f'<td style="text-align:left">{html(value)}</td></tr>'
        for name, value in _facts(state)
    )
    return card(
        Html(f'<table style="border-collapse:collapse">{rows}</table>'),
        title=f"jupyter_llmops {state.version}",
        footer="%llmops doctor checks every part",
    )


def _facts(state: WorkspaceStatus) -> list[tuple[str, str]]:
    lookups = state.cache_hits + state.cache_misses
    cache = (
        f"{state.cache_hits} of {lookups} look-ups hit, {duration(state.seconds_saved)} saved"
        if lookups
        else "no look-up yet"
    )
    return [
        ("catalog", state.catalog),
        ("model", f"{state.model} ({state.quantization})"),
        ("loaded", ", ".join(state.loaded_models) or "nothing yet"),
        ("cache", cache),
        ("audit", f"session {state.session}, {state.runs} runs stamped" if state.session else "off"),
        ("autoload", state.autoload or "off: %llmops autoload on loads this extension in every kernel"),
        ("server", state.server or "none: this kernel was not started by a Jupyter server"),
        ("coverage", _coverage(state)),
        ("you", f"{state.user} at {state.site}"),
    ]


def _coverage(state: WorkspaceStatus) -> str:
    if state.observed:
        return "the server notes which cells run, so that verify names those that are in no log"
    return "no server looks on: cells after a kernel's last record can't be missed"


def checkup_text(checkup: Checkup) -> str:
    """Return every check on a line, with the fix below each that is not well."""
    width = max((len(check.part) for check in checkup.checks), default=0)
    lines = []
    for check in checkup.checks:
        mark = STATUS_MARKS[check.status][0]
        lines.append(f"{mark} {check.part.ljust(width)}  {check.message}")
        if check.fix and check.status != "ok":
            lines.append(f"  {' ' * width}  → {check.fix}")
    return "\n".join(lines)


def checkup_html(checkup: Checkup) -> str:
    """Return the checks as a table."""
    rows = [
        (
            status(check.status, check.part),
            check.message,
            code(check.fix) if check.fix and check.status != "ok" else "",
        )
        for check in checkup.checks
    ]
    return table(["part", "what was found", "how to mend it"], rows)


def reproduction_text(reproduction: Reproduction) -> str:
    """Return the verdict and, where the answers differ, the first difference."""
    lines = [_verdict(reproduction)]
    difference = reproduction.difference
    if difference is not None:
        lines += [
            f"  first difference at token {difference.token}, character {difference.character}",
            f"  after     …{difference.before!r}",
            f"  recorded  {difference.recorded!r}",
            f"  inferred  {difference.inferred!r}",
        ]
        lines += [f"  because {reason}" for reason in reproduction.reasons or (_unknown(),)]
    return "\n".join(lines)


def reproduction_html(reproduction: Reproduction) -> str:
    """Return the verdict as a card, with the two answers side by side where they part."""
    difference = reproduction.difference
    if difference is None:
        return card(status("ok", _verdict(reproduction)), footer=_provenance(reproduction), accent=COLOR_OK)
    reasons = "".join(
        f"<div>because {html(reason)}</div>" for reason in reproduction.reasons or (_unknown(),)
    )
    body = f"<div>{status('error', _verdict(reproduction))}</div>{_side_by_side(difference)}{reasons}"
    return card(Html(body), footer=_provenance(reproduction), accent=COLOR_ERROR)


def _side_by_side(difference: Difference) -> Html:
    def cell(text: str) -> Html:
        marked = f'<span style="border-bottom:2px solid {COLOR_WARN}">{html(text) or ABSENT}</span>'
        return pre(Html(f'<span style="opacity:.7">{html(difference.before)}</span>{marked}'))

    return table(
        [f"recorded, from token {difference.token}", "inferred again"],
        [(cell(difference.recorded), cell(difference.inferred))],
    )


def _verdict(reproduction: Reproduction) -> str:
    if reproduction.identical:
        return f"identical: all {reproduction.tokens} tokens of run {reproduction.run_id} came out again"
    return f"different: run {reproduction.run_id} did not come out the same"


def _provenance(reproduction: Reproduction) -> str:
    origin = (
        "the recorded answer was a cache hit, and was inferred all the same"
        if reproduction.record_was_hit
        else "no cache was read"
    )
    recorded = f" · recorded as run {reproduction.reproduction_id}" if reproduction.reproduction_id else ""
    return (
        f"{reproduction.model} inferred it in process {reproduction.pid} "
        f"in {duration(reproduction.seconds)}; {origin}{recorded}"
    )


def _unknown() -> str:
    return "nothing in the record explains it: engine, weights, device and parameters are the same"
