"""A cascade, its answers and its worth as people see them."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

import pytest

from jupyter_llmops.cascade.asking import Table
from jupyter_llmops.cascade.report import make_report
from jupyter_llmops.cascade.specification import build_cascade
from jupyter_llmops.display.cascade import (
    cascade_answer_html,
    cascade_answer_text,
    cascade_html,
    cascade_report_html,
    cascade_report_text,
    cascade_text,
)
from jupyter_llmops.records.cascade import CascadeAnswer, Stage, StageAnswer

CASCADE = build_cascade("mood", ["pos", "neg"], [Stage("clf", "classic", 0.8), Stage("model", "llm", 0)])
TRACE = (
    StageAnswer("clf", "neg", 0.62, 0.0012, accepted=False),
    StageAnswer("model", "pos", 0.91, 0.4, accepted=True),
)
ANSWER = CascadeAnswer("a <b>text</b>", "pos", "model", 0.91, 0.4012, -0.0012, TRACE, "0123456789abcdef")
REPORT = make_report(
    CASCADE,
    [Table([[0.9, 0.1]] * 3 + [[0.4, 0.6]], 0.001), Table([[0.9, 0.1]] * 4, 0.5)],
    ["pos", "pos", "neg", "pos"],
)


def test_a_cascade_shows_its_stages_in_order():
    for view in (cascade_text, cascade_html):
        shown = view(CASCADE)
        assert shown.index("clf") < shown.index("model")
        assert "≥ 80 %" in shown
        assert "always" in shown
        assert "pos or neg" in shown


def test_an_answer_shows_who_was_asked_and_who_answered():
    text = cascade_answer_text(ANSWER)
    assert "62 %" in text
    assert "passed on" in text
    assert "answered by model in 401 ms; nothing saved" in text
    page = cascade_answer_html(ANSWER)
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert re.findall(r"width:([\d.]+)%", page) == ["62.0", "91.0"]
    assert ANSWER.run_id in page


@pytest.mark.parametrize(
    ("saved", "words"), [(None, "not known"), (0.39, "about 390 ms saved"), (-1, "nothing saved")]
)
def test_what_was_saved_is_said_as_it_is_known(saved, words):
    answer = dataclasses.replace(ANSWER, seconds_saved=saved)
    assert words in cascade_answer_text(answer)
    assert words in cascade_answer_html(answer)


def test_a_report_shows_its_figures_in_both_views():
    text, page = cascade_report_text(REPORT), cascade_report_html(REPORT)
    for figure in ("50 %", "75 %", "3 (75 %)", "1 (25 %)", "1.5 s (75 %) saved"):
        assert figure in text, figure
        assert figure in page, figure
    assert len({len(line) for line in text.splitlines()[2:3]}) == 1


def test_the_picture_is_well_formed_and_as_long_as_the_figures():
    page = cascade_report_html(REPORT)
    picture = ET.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    widths = [float(rect.attrib["width"]) for rect in picture.iter("rect")]
    tracks, bars = widths[::2], widths[1::2]
    assert [bar / track for bar, track in zip(bars, tracks, strict=True)] == pytest.approx(
        [0.5, 0.75, 0.75], abs=0.001
    )
    assert "clf: 50 % right" in picture.attrib["aria-label"]
    assert re.findall(r"display:block;width:([\d.]+)%", page) == ["75.00", "25.00"]


def test_a_stage_that_answered_nothing_and_a_cascade_that_saved_nothing():
    never = dataclasses.replace(CASCADE, stages=(Stage("<clf>", "classic", 1.0), CASCADE.stages[1]))
    report = make_report(never, [Table([[0.9, 0.1]], 0.1), Table([[0.9, 0.1]], 0.1)], ["pos"])
    text, page = cascade_report_text(report), cascade_report_html(report)
    assert "nothing saved" in text
    assert "—" in text
    assert "<clf>" not in page
