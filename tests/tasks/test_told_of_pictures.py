"""What is said below the table of the judges."""

from __future__ import annotations

from bothways.tasks.pictures import _absent


def test_what_several_judges_could_not_measure_is_one_line() -> None:
    few, none = "no distances of 2 pictures; the kernel distance needs 5", "no features; name its last block"
    verdicts = [("a", few), ("bundled:b", none), ("c", few), ("d", "")]
    told = [{"judge": judge, "absent": text and f"{judge}: {text}"} for judge, text in verdicts]
    assert list(_absent(told)) == [f"a, c: {few}", f"bundled:b: {none}"]
    assert list(_absent([])) == []
