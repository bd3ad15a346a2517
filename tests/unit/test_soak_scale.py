"""The sizes of campaigns, and that an interrupted soak goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from soak import SoakRecord, SoakScale


def scale(folder: Path, *, full: bool, answer: int = 42) -> SoakScale:
    source = folder / f"source-{answer}"
    source.mkdir(exist_ok=True)
    (source / "code.py").write_text(f"answer = {answer}\n")
    return SoakScale(
        "tests/faults/test_x.py::test_y[1]", full=full, record=SoakRecord(folder / "soak", source)
    )


def test_a_sample_is_the_same_every_time_and_leaves_nothing(tmp_path: Path) -> None:
    small = scale(tmp_path, full=False)
    assert small(5, 200) == 5
    assert list(small.cases(sample=3, full=200)) == list(small.cases(sample=3, full=200))
    assert small.pick("abcdefgh", 3) == small.pick("abcdefgh", 3)
    assert len(small.pick("abcdefgh", 3)) == 3
    assert not small.record.folder.exists()


def test_a_soak_runs_everything(tmp_path: Path) -> None:
    large = scale(tmp_path, full=True)
    assert large(5, 200) == 200
    assert len(list(large.cases(sample=3, full=20))) == 20
    assert large.pick("abcdefgh", 3) == list("abcdefgh")


def test_a_soak_goes_on_at_the_case_that_failed(tmp_path: Path) -> None:
    large = scale(tmp_path, full=True)
    run = []

    def campaign(broken: int) -> None:
        for number, case in enumerate(large.cases(sample=3, full=10)):
            if number == broken:
                raise AssertionError
            run.append(case)

    with pytest.raises(AssertionError):
        campaign(broken=4)
    assert len(run) == 4
    campaign(broken=-1)
    assert len(run) == len(set(run)) == 10


def test_other_code_starts_again(tmp_path: Path) -> None:
    large = scale(tmp_path, full=True)
    assert len(list(large.cases(sample=1, full=4))) == 4
    assert list(large.cases(sample=1, full=4)) == []
    changed = scale(tmp_path, full=True, answer=43)
    assert len(list(changed.cases(sample=1, full=4))) == 4


def test_the_report_says_how_far_each_campaign_came(tmp_path: Path) -> None:
    large = scale(tmp_path, full=True)
    assert len(list(large.cases(sample=1, full=4))) == 4
    large.record.note(large.name, outcome="passed", seconds=90.0)
    large.record.report()
    assert "| passed | 4 | 4 | 1.5 |" in (tmp_path / "soak" / "soak.md").read_text("utf-8")
