"""A cascade, its answers, and what it is worth, as text and HTML."""

from __future__ import annotations

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_BRAND,
    COLOR_FAINT,
    COLOR_OK,
    COLOR_TRACK,
    Html,
    bar,
    card,
    code,
    duration,
    html,
    pre,
    shorten,
    table,
    text_table,
)
from jupyter_llmops.records.cascade import Accuracy, Cascade, CascadeAnswer, CascadeReport, Stage

_KINDS = {"classic": "classifier", "llm": "language model"}
_STAGE_COLUMNS = ("stage", "what", "answers when")
_TRACE_COLUMNS = ("stage", "says", "confidence", "took", "")
_REPORT_COLUMNS = ("stage", "right alone", "95 %", "answered", "right of those", "per text")
# Stages are told apart by lightness as well as by order, so colour is never the only sign.
_SHADES = (COLOR_OK, COLOR_BRAND, COLOR_FAINT)


def cascade_text(cascade: Cascade) -> str:
    """Return a cascade's stages, labels and instruction as lines."""
    rows = [_stage_row(cascade, number) for number in range(len(cascade.stages))]
    head = f"cascade {cascade.name}: {' or '.join(cascade.labels)}"
    return f"{head}\n{text_table(_STAGE_COLUMNS, rows)}\ninstruction: {cascade.instruction}"


def cascade_html(cascade: Cascade) -> str:
    """Return a cascade as a card: its stages, in the order in which they are asked."""
    rows = [
        (code(name), kind, when)
        for name, kind, when in (_stage_row(cascade, n) for n in range(len(cascade.stages)))
    ]
    examples = f" · {len(cascade.examples)} examples" if cascade.examples else ""
    return card(
        Html(table(_STAGE_COLUMNS, rows) + pre(cascade.instruction)),
        title=f"cascade {cascade.name}: {' or '.join(cascade.labels)}",
        footer=f'%cascade run {cascade.name} "a text"{examples}',
    )


def cascade_answer_text(answer: CascadeAnswer) -> str:
    """Return which stage answered, what every asked stage said and took, and what was saved."""
    rows = [
        (said.stage, said.label, _percent(said.confidence), duration(said.seconds), _verdict(said.accepted))
        for said in answer.trace
    ]
    head = f"{answer.label}  ({shorten(answer.text, 60)})"
    return f"{head}\n{text_table(_TRACE_COLUMNS, rows, numeric=(2, 3))}\n{_answer_line(answer)}"


def cascade_answer_html(answer: CascadeAnswer) -> str:
    """Return an answer as a card with a confidence bar for each stage that was asked."""
    rows = [
        (
            code(said.stage),
            said.label,
            bar(said.confidence, _percent(said.confidence), color=COLOR_OK if said.accepted else COLOR_BRAND),
            duration(said.seconds),
            _verdict(said.accepted),
        )
        for said in answer.trace
    ]
    run = f" · run {answer.run_id}" if answer.run_id else ""
    return card(
        Html(pre(shorten(answer.text, 200)) + table(_TRACE_COLUMNS, rows, numeric=(3,))),
        title=answer.label,
        footer=_answer_line(answer) + run,
    )


def cascade_report_text(report: CascadeReport) -> str:
    """Return each stage's accuracy and share, and the cascade's, as a table."""
    rows = _report_rows(report)
    columns = text_table(_REPORT_COLUMNS, rows, numeric=range(1, 6))
    return f"{_report_title(report)}\n{columns}\n{_report_line(report)}"


def cascade_report_html(report: CascadeReport) -> str:
    """Return the report: a picture of accuracy and of who answered, then the figures."""
    rows = [(code(row[0]) if row[0] != report.cascade else row[0], *row[1:]) for row in _report_rows(report)]
    run = f" · run {report.run_id}" if report.run_id else ""
    return card(
        Html(
            _accuracy_picture(report)
            + _share_picture(report)
            + table(_REPORT_COLUMNS, rows, numeric=range(1, 6))
        ),
        title=_report_title(report),
        footer=_report_line(report) + run,
    )


def _stage_row(cascade: Cascade, number: int) -> tuple[str, str, str]:
    stage: Stage = cascade.stages[number]
    last = number == len(cascade.stages) - 1
    when = "always" if last else f"confidence ≥ {_percent(stage.threshold)}"
    return stage.name, _KINDS[stage.kind] + (" (calibrated)" if stage.prior else ""), when


def _verdict(accepted: bool) -> str:
    return "answered" if accepted else "not sure enough, passed on"


def _answer_line(answer: CascadeAnswer) -> str:
    took = f"answered by {answer.stage} in {duration(answer.seconds)}"
    if answer.seconds_saved is None:
        return f"{took}; what it saved is not known until the last stage was asked once"
    if answer.seconds_saved <= 0:
        return f"{took}; nothing saved"
    return f"{took}; about {duration(answer.seconds_saved)} saved"


def _report_title(report: CascadeReport) -> str:
    return f"cascade {report.cascade} on {report.rows} labelled rows"


def _report_rows(report: CascadeReport) -> list[tuple[str, ...]]:
    rows = [
        (
            stage.stage,
            _percent(stage.alone.share),
            _interval(stage.alone),
            f"{stage.answered.rows} ({_percent(stage.answered.rows / report.rows)})",
            _percent(stage.answered.share),
            duration(stage.seconds),
        )
        for stage in report.stages
    ]
    whole = (
        report.cascade,
        _percent(report.accuracy.share),
        _interval(report.accuracy),
        str(report.rows),
        _percent(report.accuracy.share),
        duration(report.seconds / report.rows),
    )
    return [*rows, whole]


def _report_line(report: CascadeReport) -> str:
    last = report.stages[-1].stage
    whole = report.seconds + report.seconds_saved
    took = f"{duration(report.seconds)} in all"
    if report.seconds_saved <= 0 or whole <= 0:
        return f"{took}; nothing saved against always asking {last}"
    share = _percent(report.seconds_saved / whole)
    return f"{took}, {duration(report.seconds_saved)} ({share}) saved against always asking {last}"


def _accuracy_picture(report: CascadeReport) -> str:
    """Return one bar for each stage alone and one for the cascade, with their 95 % intervals, as SVG."""
    bars = [(stage.stage, stage.alone, _SHADES[min(n, 2)]) for n, stage in enumerate(report.stages)]
    bars.append((report.cascade, report.accuracy, COLOR_FAINT))
    line, left, width = 26, 190, 300
    parts = []
    for number, (name, accuracy, color) in enumerate(bars):
        top = number * line
        share = accuracy.share or 0.0
        low, high = left + width * accuracy.low, left + width * accuracy.high
        middle = top + 11
        weight = ' font-weight="600"' if number == len(bars) - 1 else ""
        parts.append(
            f'<text x="{left - 10}" y="{middle + 4}" text-anchor="end"{weight}>{html(shorten(name, 24))}</text>'
            f'<rect x="{left}" y="{top + 4}" width="{width}" height="14" rx="3" style="fill:{COLOR_TRACK}"/>'
            f'<rect x="{left}" y="{top + 4}" width="{width * share:.1f}" height="14" rx="3" '
            f'style="fill:{color}"/>'
            f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8" '
            f'style="stroke:currentColor;stroke-width:1.5;fill:none"/>'
            f'<text x="{left + width + 10}" y="{middle + 4}"{weight}>{_percent(accuracy.share)}</text>'
        )
    height = line * len(bars)
    label = "; ".join(f"{name}: {_percent(accuracy.share)} right" for name, accuracy, _ in bars)
    return (
        f'<svg role="img" aria-label="{html(label)}" viewBox="0 0 {left + width + 60} {height}" '
        f'style="max-width:{left + width + 60}px;width:100%;height:auto;font-size:13px;display:block" '
        f'fill="currentColor">{"".join(parts)}</svg>'
    )


def _share_picture(report: CascadeReport) -> str:
    """Return one bar cut into the shares of rows that each stage answered."""
    parts, legend = [], []
    for number, stage in enumerate(report.stages):
        share = stage.answered.rows / report.rows
        color = _SHADES[min(number, 2)]
        parts.append(f'<span style="display:block;width:{100 * share:.2f}%;background:{color}"></span>')
        legend.append(
            f'<span style="white-space:nowrap"><span style="color:{color}">■</span> {html(stage.stage)} '
            f"answered {_percent(share)}</span>"
        )
    return (
        f'<div style="display:flex;gap:1px;height:.8em;max-width:36em;border-radius:.3em;overflow:hidden;'
        f'background:{COLOR_TRACK};margin-top:8px">{"".join(parts)}</div>'
        f'<div style="display:flex;gap:1.5em;flex-wrap:wrap;margin:2px 0 6px">{"".join(legend)}</div>'
    )


def _interval(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.low:.0f}–{100 * accuracy.high:.0f} %" if accuracy.rows else ABSENT


def _percent(share: float | None) -> str:
    return ABSENT if share is None else f"{100 * share:.0f} %"
