"""Views of a prompt, of two compared, of what happened to one, and of files of them."""

from __future__ import annotations

from collections.abc import Sequence

from jupyter_llmops.display.elements import (
    ABSENT,
    Html,
    ago,
    card,
    code,
    html,
    moment,
    shorten,
    status,
    table,
    text_table,
)
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.prompt import (
    Prompt,
    PromptEvent,
    PromptFile,
    PromptFiles,
    PromptHistory,
    Variable,
)

LONGEST_SHOWN = 50_000
"""Characters of a template; a browser does not bear a text of megabytes."""

_MARKS = {
    "problem": "fail",
    "skipped": "",
    "unchanged": "",
    "written": "ok",
    "new": "ok",
    "new version": "ok",
}


def saved_line(prompt: Prompt, *, is_new: bool) -> str:
    """Return what saving came to, in one line."""
    name = f"{prompt.name}@{prompt.version}"
    whose = " in your own catalog" if prompt.private else ""
    if not is_new:
        return f"{name}{whose} has this content already: no new version."
    return f"Saved as {name}{whose}, {'a new prompt' if prompt.version == 1 else 'a new version'}."


def prompt_text(prompt: Prompt) -> str:
    """Return one version of a prompt: what it needs, then its template."""
    facts = _facts(prompt)
    width = max(len(name) for name, _ in facts)
    indent = "\n" + " " * (width + 4)
    lines = [_title(prompt)]
    lines += [f"  {name.ljust(width)}  {str(value).replace(chr(10), indent)}" for name, value in facts]
    return "\n".join(lines) + f"\n\n{_shown(prompt.template)}"


def prompt_html(prompt: Prompt) -> str:
    """Return one version of a prompt as a card."""
    rows = "".join(
        f'<tr><td style="padding:1px 14px 1px 0;text-align:left;opacity:.75;vertical-align:top">{code(name)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere;white-space:pre-wrap">{html(value)}</td></tr>'
        for name, value in _facts(prompt)
    )
    facts = card(Html(f'<table style="border-collapse:collapse">{rows}</table>'), title=_title(prompt))
    return f'{facts}<pre style="padding:4px 12px;white-space:pre-wrap">{code(_shown(prompt.template))}</pre>'


def declaration(variable: Variable) -> str:
    """Return a declaration as it is typed, with what is said of it."""
    text = variable.name if variable.type == "any" else f"{variable.name}: {variable.type}"
    text += f" = {variable.default!r}" if variable.has_default else ""
    return text + (f"  ({variable.description})" if variable.description else "")


def alias_words(prompt: Prompt) -> str:
    """Return the aliases of a prompt's name; the version of those that point to another."""
    words = []
    for change in prompt.alias_moves:
        alias = change.field.removeprefix("alias:")
        words.append(alias if change.value == prompt.version else f"{alias} → {change.value}")
    return ", ".join(words)


def _move(change: Change) -> str:
    when = f" {ago(change.created_at)}" if change.created_at else ""
    return f"{change.field.removeprefix('alias:')} → {change.value}, moved by {change.created_by or ABSENT}{when}"


def _shown(text: str) -> str:
    """Return a text as far as a page can show it."""
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[:LONGEST_SHOWN]}\n… {len(text) - LONGEST_SHOWN:,} characters more"


def _title(prompt: Prompt) -> str:
    notes = [*prompt.aliases]
    notes += ["yours"] if prompt.private else []
    notes += ["retired"] if prompt.retired else []
    return f"{prompt.name}@{prompt.version}" + (f" ({', '.join(notes)})" if notes else "")


def _facts(prompt: Prompt) -> list[tuple[str, object]]:
    declared = {variable.name: declaration(variable) for variable in prompt.declarations}
    variables = [declared.get(name, name) for name in prompt.variables]
    optional: list[tuple[str, object]] = [
        ("description", prompt.description),
        ("tags", ", ".join(prompt.tags)),
        ("aliases", "\n".join(map(_move, prompt.alias_moves))),
        ("includes", ", ".join(prompt.includes)),
        ("examples", len(prompt.examples) or ""),
    ]
    facts: list[tuple[str, object]] = [
        ("variables", ", ".join(variables) or ABSENT),
        ("system", _shown(prompt.system) or ABSENT),
        ("model", prompt.model or "default"),
        ("parameters", ", ".join(f"{k}={v}" for k, v in prompt.parameters) or ABSENT),
        ("digest", prompt.digest),
        ("by", prompt.created_by or ABSENT),
        ("when", ago(prompt.created_at) if prompt.created_at else ABSENT),
        ("site", prompt.site or ABSENT),
    ]
    return [fact for fact in optional if fact[1]] + facts


def prompt_history_text(history: PromptHistory) -> str:
    """Return what happened to a prompt, a line each."""
    rows = [
        [ago(event.created_at) if event.created_at else ABSENT, *_event_cells(event)]
        for event in history.events
    ]
    return text_table(["when", "what", "note", "by", "site"], rows)


def prompt_history_html(history: PromptHistory) -> str:
    """Return what happened to a prompt as a table."""
    rows = [[moment(event.created_at), *_event_cells(event)] for event in history.events]
    return table(["when", "what", "note", "by", "site"], rows, caption=f"history of {history.name}")


def _event_cells(event: PromptEvent) -> list[str]:
    by = event.created_by or ABSENT
    return [
        _event_words(event),
        shorten(event.note, 60),
        f"{by} (yours)" if event.private else by,
        event.site,
    ]


def _event_words(event: PromptEvent) -> str:
    alias = event.what.removeprefix("alias:")
    if event.what == "version":
        return f"version {event.to}"
    if alias != event.what:
        return f"{alias} → {event.to}" if event.to else f"{alias} taken away"
    if event.what == "retired":
        return "retired" if event.to else "restored"
    if event.what == "published":
        return f"published version {event.to}"
    return f"{event.what}: {shorten(event.to, 60)}" if event.to else f"{event.what} taken away"


def prompt_files_text(files: PromptFiles) -> str:
    """Return what became of every file, a line each."""
    if not files.files:
        return f"{files.place} holds no prompts."
    rows = [[file.outcome, file.file, _reference(file), file.note] for file in files.files]
    return text_table(["outcome", "file", "prompt", "note"], rows) + f"\n{_count(files)}"


def prompt_files_html(files: PromptFiles) -> str:
    """Return what became of every file as a table."""
    if not files.files:
        return card(f"{files.place} holds no prompts.")
    rows: list[Sequence[object]] = [
        [
            status(_MARKS[file.outcome], file.outcome) if _MARKS.get(file.outcome) else file.outcome,
            code(file.file),
            _reference(file),
            file.note,
        ]
        for file in files.files
    ]
    return table(["outcome", "file", "prompt", "note"], rows, caption=_count(files))


def _reference(file: PromptFile) -> str:
    return f"{file.name}@{file.version}" if file.version else file.name


def _count(files: PromptFiles) -> str:
    outcomes = [file.outcome for file in files.files]
    counts = [_counted(outcomes.count(word), word) for word in dict.fromkeys(outcomes)]
    return f"{files.place}: {', '.join(counts)}"


def _counted(number: int, outcome: str) -> str:
    ending = "s" if number != 1 and outcome in ("problem", "new version") else ""
    return f"{number} {outcome}{ending}"
