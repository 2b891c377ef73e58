"""The papers behind a run."""

from __future__ import annotations

from bothways.runs.citations import flow_citations


def test_a_path_without_a_name_has_no_paper_of_its_own() -> None:
    plain = flow_citations()
    assert flow_citations(path="scheduled") == plain  # of a diffusion model's own table of levels
    assert len(flow_citations(path="vp")) == len(plain) + 1
