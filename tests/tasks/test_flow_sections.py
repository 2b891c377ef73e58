"""The sections of a flow's runs: what was measured is shown, what was not is left out, and nothing is fetched."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from bothways.numerics.draws import generator
from bothways.report import render
from bothways.report.parts import Part, strip_size
from bothways.representation.diagnostics import jacobian_gain, paths, round_trip, side_by_side, straightness, strips
from bothways.representation.information import mutual_information_indicator
from bothways.representation.likelihood import Integration, bits_per_dim
from bothways.representation.paths import path_of
from bothways.runs import RunFolder, to_png
from bothways.tasks.diagnose import charts
from bothways.tasks.diagnose import section as diagnosis
from bothways.tasks.likelihood import section as bits
from bothways.tasks.pretrain import section as losses
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
    """Everything that can be measured of a flow, as several runs of it measure, by what measures it."""
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
    settings = {"task": "diagnose", "settings": {"steps": 40}, "model": {"name": "unet-tiny"}}
    folder = RunFolder.create(path, settings)
    folder.write_measures({"flow": measured(folder, variance), "cost": {"seconds": 75.4, "peak_mb": 900.0}})
    folder.write_status("complete", seconds=75.4, started="2026-05-03T10:00:00+00:00")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return flow_run(tmp_path_factory.mktemp("runs") / "diagnose")


@pytest.fixture(scope="module")
def html(run: RunFolder) -> str:
    return render([run])


def test_the_page_says_what_was_measured_and_shows_every_part(html: str) -> None:
    assert "diagnose measured unet-tiny in 1 min 15 s on 3 May 2026." in html
    titles = ("From picture to noise", "The flow in numbers", "Straightness", "Round trip")
    for title in (*titles, "Gain", "Bound on mutual information", "A Swiss roll"):
        assert f"<h3>{title}</h3>" in html, title
    for absent in (
        "not measured",
        "no picture finished",
        "Confusion matrices",
        "What the judges",
        "Per picture",
        "While it",
        "nan",
    ):
        assert absent not in html.split("<script")[0], absent
    assert "of the whole measuring" in html
    assert html.count('role="img"') == 5


def test_the_numbers_of_the_page_are_those_that_were_measured(html: str, run: RunFolder) -> None:
    facts = run.measures["flow"]
    for value in (facts["straightness"]["total"], facts["round_trip"][3]["rms"]):
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
    parts: list[Part] = [p for of in (bits, diagnosis) for p in (of.section(run.measures) or {"parts": []})["parts"]]
    assert len(parts) == 6
    for part in parts:
        for chart in part.charts:
            go.Figure(chart.figure)  # raises on any property that Plotly does not know
            assert chart.words.endswith(".")
    roll = charts.swiss_roll(facts["swiss_roll"])
    assert roll is not None
    assert sum(len(trace["x"]) for trace in roll.figure["data"] if trace["mode"] == "markers") == 2 * 60
    assert len({trace["marker"]["color"] for trace in roll.figure["data"] if trace["mode"] == "markers"}) == 12
    trips = charts.round_trip(facts["round_trip"])
    assert trips is not None
    assert trips.figure["data"][1]["x"] == [5, 10, 20]
    assert trips.figure["data"][1]["y"] == [row["rms"] for row in facts["round_trip"][3:]]


def test_the_page_of_a_training_says_how_long_and_shows_the_loss_over_the_steps(tmp_path: Path) -> None:
    tables = {"task": "pretrain", "settings": {"recipe": "otcfm"}, "model": {"name": "unet-tiny"}}
    folder = RunFolder.create(tmp_path / "run", tables)
    for step in range(1, 41):
        folder.append_frame(Frame(step, step / 40, None, {"loss": 1 / step, "rate": 1e-3}), 0)
    folder.write_measures({"flow": {"validation_loss": 0.5, "validation_error": 0.05, "training_loss": 0.25}})
    page = render([folder])
    assert "otcfm trained unet-tiny for 40 steps on " in page
    assert "0.402–0.598" in page
    assert "Statistics during training" in page
    assert "of the whole training" in page
    assert page.count('role="img"') == 2  # the loss and the rate


def test_the_page_of_a_likelihood_shows_its_pictures(run: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "likelihood", "settings": {}})
    facts = run.measures["flow"]["likelihood"]
    folder.write_measures({"flow": {"likelihood": facts}})
    page = render([folder])
    assert "likelihood measured a flow" in page
    assert f'data-csv="{facts["bits_per_dim"]}"' in page
    assert "<h3>Likelihood</h3>" in page


def test_what_was_not_measured_is_left_out_and_what_is_broken_does_not_break_the_page(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "bare", {"task": "diagnose", "settings": {}})
    folder.write_measures({"flow": {}})
    words = render([folder])
    assert "diagnose measured a flow." in words or "diagnose measured a flow on" in words
    assert "<h3>Round trip</h3>" not in words
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
    assert "<h3>Gain</h3>" in words
    assert "<h3>Round trip</h3>" not in words
    assert "not measured" in words
    assert "None" not in words.split("<script")[0]


def test_a_strip_outside_the_folder_or_gone_is_refused(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"task": "diagnose", "settings": {}})
    (tmp_path / "secret.png").write_bytes(to_png(torch.zeros(3, 4, 4)))
    for file, why in (("../secret.png", "outside the run folder"), ("images/gone.png", "no such file")):
        folder.write_measures({"flow": {"strips": [file]}})
        with pytest.raises(UserError, match=why):
            render([folder])


def test_a_section_is_none_for_the_runs_of_others(run: RunFolder) -> None:
    likelihood = {"flow": {"likelihood": run.measures["flow"]["likelihood"]}}
    trained = {"flow": {"validation_loss": 0.5, "validation_error": 0.01, "validation_pictures": 4}}
    walked = {"flow": {"round_trip": run.measures["flow"]["round_trip"]}}
    for own, measures in ((bits, likelihood), (losses, trained), (diagnosis, walked)):
        shown = own.section(measures)
        assert shown is not None
        assert set(shown) == {"strips", "depths", "numbers", "parts"}
        for other in {bits, losses, diagnosis} - {own}:
            assert other.section(measures) is None
    for measures in ({}, {"flow": {}}, {"flow": None}):
        assert all(each.section(measures) is None for each in (bits, losses, diagnosis))
    shown = diagnosis.section(run.measures)
    assert shown is not None
    assert shown["strips"] == run.measures["flow"]["strips"]
    assert shown["depths"] == ["picture", "0.25", "0.5", "0.75", "noise"]


def test_the_loss_stands_with_its_interval() -> None:
    shown = losses.section({"flow": {"validation_loss": 0.5, "validation_error": 0.05, "training_loss": 0.25}})
    assert shown is not None
    cells = [[cell.text for cell in row] for row in shown["numbers"].rows]
    assert cells[0][:4] == ["Loss on held-out pictures", "0.500", "0.402–0.598", "not measured"]
    assert cells[1][:2] == ["Loss in training", "0.250"]
    few = losses.section({"flow": {"validation_loss": 0.5, "validation_error": 0.05, "validation_pictures": 4}})
    assert few is not None
    assert few["numbers"].rows[0][2].text == "0.341–0.659"  # 3.182 errors, by Student's t of three degrees of freedom
    broken = losses.section({"flow": {"validation_loss": None}})
    assert broken is not None
    assert broken["numbers"].rows[0][1].text == "not measured"
    table = losses.comparison_table([("a", {"flow": {"validation_loss": 0.5, "validation_error": 0.05}}, {})])
    assert [cell.text for cell in table.rows[0]][:3] == ["a", "0.500", "0.402–0.598"]


def test_two_likelihoods_stand_side_by_side(tmp_path: Path) -> None:
    runs = []
    for name, value in (("one", 3.25), ("other", 2.5)):
        runs.append(RunFolder.create(tmp_path / name, {"task": "likelihood", "settings": {}}))
        runs[-1].write_measures({"flow": {"likelihood": {"bits_per_dim": value, "low": value - 0.25, "high": 3.5}}})
    page = render(runs)
    table = page.split("Side by side</h2>")[1].split("</section>")[0]
    assert "3.25" in table
    assert "3.00–3.50" in table
    assert "2.25–3.50" in table
    assert "Hit-rate" not in page


def test_two_diagnoses_stand_side_by_side(run: RunFolder) -> None:
    measures = {"flow": {key: run.measures["flow"][key] for key in ("straightness", "round_trip")}}
    table = diagnosis.comparison_table([("one", measures, {}), ("other", {"flow": {"round_trip": []}}, {})])
    deepest = run.measures["flow"]["round_trip"][-1]["rms"]
    assert [cell.value for cell in table.rows[0][1:3]] == [run.measures["flow"]["straightness"]["per_dim"], deepest]
    assert [cell.text for cell in table.rows[1][1:3]] == ["not measured"] * 2
