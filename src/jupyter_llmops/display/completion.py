"""Views of an answer, and of a prompt that was not sent."""

from __future__ import annotations

from jupyter_llmops.display.elements import (
    COLOR_BRAND,
    COLOR_OK,
    COLOR_WARN,
    Html,
    card,
    code,
    duration,
    html,
    pre,
    status,
)
from jupyter_llmops.display.sources import sources_html, sources_text
from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.prompting import DryRun

# Answers that a terminal has just written out piece by piece.
_written_out: set[str] = set()


def was_written_out(run_id: str) -> None:
    """Let the next text view of a run's answer leave the answer itself out."""
    _written_out.add(run_id)


def completion_text(completion: Completion) -> str:
    """Return the answer and, below it, where it came from."""
    sources = sources_text(completion.passages, completion.note)
    if completion.run_id in _written_out:
        _written_out.discard(completion.run_id)
        return f"[{summary(completion)}]{sources}"
    return f"{completion.text}\n\n[{summary(completion)}]{sources}"


def completion_html(completion: Completion) -> str:
    """Return the answer as a card with its origin, tokens and time."""
    accent = COLOR_BRAND
    if completion.source == "cache":
        accent = COLOR_OK
    if completion.finish_reason != "stop":
        accent = COLOR_WARN
    body = Html(pre(completion.text) + sources_html(completion.passages, completion.note))
    return card(body, footer=summary(completion), accent=accent)


def summary(completion: Completion) -> str:
    """Return one line: model, tokens, time, origin, run."""
    parts = [f"{completion.model} {completion.quantization}".strip()]
    parts.append(f"{completion.tokens_in} → {completion.tokens_out} tokens")
    if completion.source == "cache":
        parts.append(
            f"from the cache in {duration(completion.seconds)}, {duration(completion.seconds_saved)} saved"
        )
    else:
        rate = completion.tokens_per_second
        parts.append(
            f"from the model in {duration(completion.computed_seconds)}"
            + (f" ({rate:.0f} tokens/s)" if rate else "")
        )
    if completion.cost.amount:
        from jupyter_llmops.display.budget import money

        parts.append(money(completion.cost.amount, completion.cost.currency))
    if completion.finish_reason == "length":
        parts.append("cut at -n")
    if completion.finish_reason == "interrupted":
        parts.append("interrupted")
    if completion.run_id:
        parts.append(f"run {completion.run_id}")
    return " · ".join(parts)


def dry_run_text(dry: DryRun) -> str:
    """Return the rendered messages, their length and whether the cache has the answer."""
    messages = "\n".join(f"{message.role}: {message.content}" for message in dry.request.messages)
    why = f"\n{dry.reason}" if dry.reason else ""
    return f"{messages}\n\n[{_plan(dry)}]{why}{sources_text(dry.passages, dry.note)}"


def dry_run_html(dry: DryRun) -> str:
    """Return the rendered messages as a card."""
    body = Html(
        "".join(
            f'<div style="margin-bottom:6px">{code(message.role)}{pre(message.content)}</div>'
            for message in dry.request.messages
        )
    )
    warning = Html("")
    if dry.secrets:
        warning = Html(f"<div>{status('warn', _secrets(dry))}</div>")
    sources = sources_html(dry.passages, dry.note)
    why = Html(f'<div style="opacity:.75">{html(dry.reason)}</div>') if dry.reason else ""
    return card(Html(body + warning + why + sources), title="Dry run: nothing was sent", footer=_plan(dry))


def _plan(dry: DryRun) -> str:
    request = dry.request
    verdict = "would hit the cache" if dry.would_hit else "would ask the model"
    parameters = request.parameters
    how = f"temperature {parameters.temperature:g}" if parameters.sampled else "greedy"
    variables = f"variables {', '.join(dry.variables)}" if dry.variables else "no variables"
    return (
        f"{dry.tokens_in} tokens, at most {parameters.max_new_tokens} new · {verdict} · "
        f"{request.model} {request.quantization} on {request.device}, {how} · {variables}"
        + (f" · {_secrets(dry)}" if dry.secrets else "")
    )


def _secrets(dry: DryRun) -> str:
    return f"seems to hold a secret ({', '.join(dry.secrets)}): it would not be cached"


def progress_html(text: str, line: str) -> str:
    """Return an answer that is still being written, with a line that says how it goes."""
    return card(pre(text), footer=line) if text else card(html(line))
