"""Secrets of a hundred kinds are cut out; ordinary lines are left alone."""

from __future__ import annotations

import sysconfig
from collections import Counter
from pathlib import Path
from random import Random

from jupyter_llmops.guard.detect import Detector
from jupyter_llmops.guard.redaction import Redactor
from secret_tokens import KINDS, WRITTEN, draw


def test_at_least_99_of_100_secrets_are_cut_out_however_written() -> None:
    random = Random(20261122)
    missed: Counter[str] = Counter()
    count = 0
    for kind in KINDS:
        for _ in range(8):
            for way, write in WRITTEN.items():
                secret = draw(kind, random)
                count += 1
                # Each by a redactor of its own: none knows what another one learned.
                clean = Redactor({}).redact(write(secret.text)).text
                if secret.value in clean:
                    missed[f"{kind} {way}"] += 1
    assert len(KINDS) >= 90
    assert sum(missed.values()) <= count / 100, missed.most_common(20)
    worst = missed.most_common(1)
    assert not worst or worst[0][1] < 8, f"a kind is missed always: {worst}"


def ordinary_lines() -> list[str]:
    """Return cells of 14 lines: of this package and its tests, and of the standard library."""
    here = Path(__file__).resolve().parents[2]
    files = sorted((here / "src").rglob("*.py"))[::6] + sorted((here / "benchmarks").glob("*.py"))[:6]
    files += sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[::12]
    cells = []
    for path in files:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        cells += ["\n".join(lines[start : start + 14]) for start in range(0, len(lines), 14)]
    return cells


def test_at_most_one_ordinary_line_of_100_is_touched() -> None:
    redactor, detector = Redactor({}), Detector()
    lines = touched = looked = again = 0
    for number, cell in enumerate(ordinary_lines()):
        clean = redactor.redact(cell).text
        lines += cell.count("\n") + 1
        pairs = zip(cell.split("\n"), clean.split("\n"), strict=False)
        touched += sum(before != after for before, after in pairs)
        if number % 4 == 0:
            looked += clean.count("\n") + 1
            pairs = zip(clean.split("\n"), detector.redact(clean).text.split("\n"), strict=False)
            again += sum(before != after for before, after in pairs)
    assert lines > 5000
    assert touched <= lines / 100
    assert again <= looked / 100


def test_the_second_look_leaves_what_is_cut_out_already() -> None:
    text = "password = '[redacted:named-secret]'\nx = '[redacted:aws-access-key]'"
    assert Detector().redact(text) == (text, ())


def test_a_private_key_takes_everything_with_it() -> None:
    clean = Detector().redact("a = 1\n-----BEGIN RSA PRIVATE KEY-----\nabc")
    assert clean.text == "[redacted:private-key]"
    assert clean.found == ("private-key",)
