"""The pane that shows a job of the studio."""

from __future__ import annotations

from pathlib import Path

from bothways.studio import jobs, pane
from bothways.studio.jobs import KEPT, Jobs
from bothways.studio.requests import Request


def test_a_job_that_waits_is_shown_anew_when_one_ahead_of_it_ends(tmp_path: Path) -> None:
    found = Jobs.__new__(Jobs)
    found.__dict__.update(runs=tmp_path, kept=KEPT, all=[], _waiting=jobs.Queue(), _adding=jobs.threading.Lock())
    first, second = (found.submit(Request("photo", "edit", {})) for _ in range(2))
    part = pane.Pane(found, "photo", lambda job: ("", ""), *[None] * 8, seeded=True)
    before = part.show(second)
    assert "1 run ahead" in before[3]
    assert part.marker(second) == before[1]
    first.stop()
    assert part.marker(second) != before[1]
    assert "is starting" in part.show(second)[3]
