"""The page of a flow: what was measured of it is shown, what was not is left out, and nothing is fetched."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from bothways.numerics.draws import generator
from bothways.report import flow, flow_charts, render
from bothways.report.pictures import strip_size
from bothways.representation.diagnostics import jacobian_gain, paths, round_trip, side_by_side, straightness, strips
from bothways.representation.information import mutual_information_indicator
from bothways.representation.likelihood import Integration, bits_per_dim
from bothways.representation.paths import path_of
from bothways.runs import RunFolder, to_png
from bothways.types import Frame, UserError
from closed_flows import MixtureFlow, PixelGaussian, picture_flow

DEPTHS = [0.0, 0.25, 0.5, 0.75, 1.0]


def swiss_roll(points: int = 60) -> dict:
    """A mixture along a roll, its points and their ways."""
    angles = torch.linspace(0, 3 * math.pi, points, dtype=torch.float64)
    places = torch.stack([angles * angles.cos(), angles * angles.sin()], 1) / 4
    roll = MixtureFlow(places, 0.003 * torch.eye(2).expand(points, 2, 2), [1 / points] * points)
    return paths(roll, places, steps=20, kept=11).as_facts(angles.tolist())


def measured(folder: RunFolder, variance: float = 0.5) -> dict:
    """Everything that can be measured of a flow, by what measures it."""
    model = picture_flow(PixelGaussian(0.1, variance), 8)
    images = torch.randint(0, 256, (12, 3, 8, 8), generator=generator(2)).float() / 255
    x, seeds = model.code(images), range(12)
    rows = side_by_side(strips(model, images[:3], DEPTHS))
    files = [f"images/strip-{place:04d}.png" for place in range(3)]
    for file, row in zip(files, rows, strict=True):
        (folder.path / file).write_bytes(to_png(row))
    trips = round_trip(model, images, [0.25, 1.0], [5, 10, 20])
    information = mutual_information_indicator(model, path_of("linear"), x, seeds, points=12)
    return {
        "straightness": straightness(model, torch.randn(x.shape, generator=generator(4)), steps=10).as_facts(),
        "likelihood": bits_per_dim(model, images, how=Integration(steps=5)).as_facts(),
        "round_trip": [row.as_facts() for row in trips],
        "gain": [row.as_facts() for row in jacobian_gain(model, x, seeds, [0.25, 0.5, 1.0], steps=4)],
        "information": [row.as_facts() for row in information],
        "swiss_roll": swiss_roll(),
        "strips": files,
        "strip_depths": DEPTHS,
    }


def flow_run(path: Path, variance: float = 0.5) -> RunFolder:
    tables = {"task": "pretrain", "settings": {"recipe": "otcfm", "steps": 40}, "model": {"name": "unet-tiny"}}
    folder = RunFolder.create(path, tables)
    for step in range(1, 41):
        folder.append_frame(Frame(step, step / 40, None, {"loss": 1 / step, "rate": 1e-3}), 0)
    folder.write_measures({"flow": measured(folder, variance), "cost": {"seconds": 75.4, "peak_mb": 900.0}})
    folder.finish("complete", seconds=75.4, started="2026-05-03T10:00:00+00:00")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return flow_run(tmp_path_factory.mktemp("runs") / "pretrain")


@pytest.fixture(scope="module")
def html(run: RunFolder) -> str:
    return render([run])


def test_the_page_says_what_was_trained_and_shows_every_part(html: str) -> None:
    assert "otcfm trained unet-tiny for 40 steps in 1 min 15 s on 3 May 2026." in html
    titles = ("From picture to noise", "The flow in numbers", "Likelihood and straightness", "There and back")
    for title in (*titles, "How it stretches", "What the noise leaves", "A Swiss roll", "While it was training"):
        assert f"<h3>{title}</h3>" in html, title
    for absent in ("not measured", "no picture finished", "Wanted and called", "What the judges", "Per picture", "nan"):
        assert absent not in html.split("<script")[0], absent
    assert "of the training alone" in html
    assert html.count('role="img"') == 6 + 2  # and the loss and the rate


def test_the_numbers_of_the_page_are_those_that_were_measured(html: str, run: RunFolder) -> None:
    facts = run.measures["flow"]
    for value in (facts["likelihood"]["bits_per_dim"], facts["straightness"]["total"], facts["round_trip"][3]["rms"]):
        assert f'data-csv="{value}"' in html
    assert f'data-csv="{facts["gain"][1]["low"]} to {facts["gain"][1]["high"]}"' in html
    assert f'data-csv="{facts["information"][-1]["nats_per_dim"]}"' in html
    assert html.count('class="copy"') == 1 + 3 + 1 + 2  # numbers, three by depth, cost, settings and model


def test_every_strip_is_embedded_as_it_lies_on_disk(html: str, run: RunFolder) -> None:
    for file in run.measures["flow"]["strips"]:
        assert base64.b64encode((run.path / file).read_bytes()).decode() in html
    assert 'width="480" height="96"' in html  # 5 states of 8 x 8, twelvefold
    assert "<li>picture</li><li>0.25</li>" in html
    assert strip_size(9 * 224, 224) == (1100, 122)
    assert strip_size(9 * 64, 64) == (576, 64)


def test_charts_are_valid_plotly(run: RunFolder) -> None:
    facts = run.measures["flow"]
    for part in flow.parts(facts):
        for chart in part.charts:
            go.Figure(chart.figure)  # raises on any property that Plotly does not know
            assert chart.words.endswith(".")
    roll = flow_charts.swiss_roll(facts["swiss_roll"])
    assert roll is not None
    assert sum(len(trace["x"]) for trace in roll.figure["data"] if trace["mode"] == "markers") == 2 * 60
    assert len({trace["marker"]["color"] for trace in roll.figure["data"] if trace["mode"] == "markers"}) == 12
    trips = flow_charts.round_trip(facts["round_trip"])
    assert trips is not None
    assert trips.figure["data"][1]["x"] == [5, 10, 20]
    assert trips.figure["data"][1]["y"] == [row["rms"] for row in facts["round_trip"][3:]]


def test_what_was_not_measured_is_left_out_and_what_is_broken_does_not_break_the_page(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "bare", {"task": "pretrain", "settings": {}})
    folder.write_measures({"flow": {}})
    words = render([folder])
    assert "pretrain trained a flow." in words or "pretrain trained a flow on" in words
    assert "There and back" not in words
    one = {"depth": 0.5, "gain": 2.0, "low": None, "high": None}
    folder.write_measures(
        {
            "flow": {
                "straightness": {"total": None, "times": [0, 1], "profile": [None, 1.0]},
                "likelihood": {"bits_per_dim": 3.0, "low": float("nan"), "high": None, "bits": []},
                "round_trip": [{"depth": 0.5, "steps": 5, "rms": 0.0, "largest": 0.0}, {"depth": 1.0}],
                "gain": [one, {"depth": 1.0, "gain": None}],
                "information": [{}],
                "swiss_roll": {"paths": [[[0, 0]]], "angles": []},
            }
        }
    )
    words = render([folder])
    assert "How it stretches" in words
    assert "There and back" not in words
    assert "not measured" in words
    assert "None" not in words.split("<script")[0]


def test_a_strip_outside_the_folder_or_gone_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "diagnose", "settings": {}})
    (tmp_path / "secret.png").write_bytes(to_png(torch.zeros(3, 4, 4)))
    for file, why in (("../secret.png", "outside the run folder"), ("images/gone.png", "no such file")):
        folder.write_measures({"flow": {"strips": [file]}})
        with pytest.raises(UserError, match=why):
            render([folder])


def test_two_flows_stand_side_by_side(run: RunFolder, tmp_path: Path) -> None:
    other = RunFolder.create(tmp_path / "other", {"task": "pretrain", "settings": {}})
    other.write_measures({"flow": {"likelihood": {"bits_per_dim": 3.25, "low": 3.0, "high": 3.5}}})
    page = render([run, other])
    table = page.split("Side by side</h2>")[1].split("</section>")[0]
    assert "3.25" in table
    assert "3.00–3.50" in table
    assert "Hit-rate" not in page
    deepest = run.measures["flow"]["round_trip"][-1]["rms"]
    assert f'data-csv="{deepest}"' in table
