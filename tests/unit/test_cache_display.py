"""The cache card: the hit rate as a bar, what is wrong in words, nothing interpreted as HTML."""

from __future__ import annotations

import re
from dataclasses import replace

from jupyter_llmops.display.cache import cache_html, cache_text
from jupyter_llmops.records.cache import CacheStats

STATS = CacheStats(
    hits=7,
    misses=3,
    bypassed=0,
    rejected=0,
    seconds_saved=124.2,
    entries=1,
    size_bytes=1536,
    folder="/data/<team> & co/cache",
)
EMPTY = CacheStats(0, 0, 0, 0, 0.0, 0, 0, "/data/cache")


def test_text_shows_rate_savings_and_disk():
    text = cache_text(STATS)
    assert "70 % · 7 hits, 3 misses  ██████████████░░░░░░" in text
    assert "2 min 4 s" in text
    assert "1 answer, 1.5 KiB" in text
    assert STATS.folder in text
    assert "!" not in text


def test_html_bar_is_as_long_as_the_rate():
    assert "width:70.0%" in cache_html(STATS)
    assert "7 hits, 3 misses" in cache_html(STATS)
    assert "width:100.0%" in cache_html(replace(STATS, misses=0))


def test_html_is_escaped():
    shown = cache_html(replace(STATS, problem="<script>alert(1)</script>"))
    assert "<team>" not in shown
    assert "/data/&lt;team&gt; &amp; co/cache" in shown
    assert "<script>" not in shown


def test_empty_state_has_no_bar_and_no_zero_rate():
    for shown in (cache_text(EMPTY), cache_html(EMPTY)):
        assert "no look-up yet" in shown
        assert "nothing yet" in shown
        assert "0 %" not in shown
    assert "width:0" not in cache_html(EMPTY)
    assert "█" not in cache_text(EMPTY)


def test_notices_are_words():
    troubled = replace(
        STATS, enabled=False, problem="Answers can't be stored in /x: No space left.", rejected=2
    )
    for shown in (cache_text(troubled), cache_html(troubled)):
        assert "The cache is off; %cache on switches it on." in shown
        assert "No space left" in shown
        assert "2 stored items that did not verify" in shown


def test_bypassed_requests_are_told_but_are_no_warning():
    text = cache_text(replace(STATS, bypassed=2))
    assert "7 hits, 3 misses, 2 not looked up" in text
    assert "!" not in text


def test_colours_follow_the_theme_with_a_fallback():
    for use in re.findall(r"var\([^)]*\)?", cache_html(STATS)):
        assert "," in use, use
