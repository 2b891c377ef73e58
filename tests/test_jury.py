"""What benchmarks print of several rows: who judges, and differences in the same photos or seeds, by Holm."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import scipy.stats
import torch

import bothways
from bothways.judging.verdicts import Reference
from bothways.numerics.distances import kernel_difference
from bothways.numerics.intervals import holm, share_interval

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch):
    """A file of benchmarks/ as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def loaded(name: str) -> ModuleType:
        described = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / f"benchmarks/{name}.py")
        assert described is not None
        assert described.loader is not None
        module = importlib.util.module_from_spec(described)
        monkeypatch.setitem(sys.modules, described.name, module)
        described.loader.exec_module(module)
        return module

    yield loaded
    for name in ("jury", "prg_page"):
        sys.modules.pop(name, None)


def test_networks_of_others_judge_where_their_weights_are(program, monkeypatch, capsys, tmp_path) -> None:
    jury, (model, there) = program("jury"), (bothways.load_model("bundled:cifar10-resnet"), tmp_path / "there.py")
    there.write_text(
        "import torch, bothways\ndef build():\n"
        "    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))\n"
        "    return net, bothways.ModelSpec(32, 0.5, 0.5, 10)\n"
    )
    monkeypatch.setattr(jury, "OTHERS", {"there": f"{there}:build", "gone": f"{tmp_path / 'gone.py'}:build"})
    found = jury.jury(model, ["bundled:cifar10-prg"])
    assert list(found) == ["cifar10-attention", "cifar10-plain", "there", "bundled:cifar10-prg"]
    assert capsys.readouterr().out.startswith("gone does not judge: ")
    judges = [found["cifar10-plain"], found["there"]]
    kept = jury.references_of(judges, None)
    assert kept[judges[0].name].features.shape[0] == 500
    assert kept[judges[1].name] is None


def test_edits_are_compared_in_the_same_photos(program, capsys) -> None:
    editing = program("editing")
    base = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    rows = {"naive": torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0]), "das": base.clone()}
    found = editing.compare(
        {"photo": {"plain": 0 * base}, "edit": {"plain": base}, **{k: {"plain": v} for k, v in rows.items()}}
    )
    truth = scipy.stats.ttest_rel(rows["naive"].double(), base.double())
    assert found["naive"]["plain"][0] == pytest.approx(-0.5)
    assert found["naive"]["plain"][3] == pytest.approx(2 * truth.pvalue)  # the smaller of two
    assert found["das"]["plain"] == [0.0, 0.0, 0.0, 1.0]
    assert "das" in capsys.readouterr().out
    assert editing.compare({"naive": {"plain": base}}) == {}


def test_fills_are_compared_in_the_same_pictures(program) -> None:
    inpainting = program("inpainting")
    source = torch.Generator().manual_seed(0)
    near, base = (torch.randn(20, generator=source, dtype=torch.float64) for _ in range(2))
    right = {name: (torch.randint(0, 2, (20,), generator=source).double(), near) for name in ("plain", "resnet56")}
    none = {name: (torch.zeros(20).double(), base) for name in right}
    rows = {name: inpainting.measures(near + k, right, (base, none)) for k, name in enumerate(("one", "two"))}
    rows["harmonic"] = inpainting.measures(base, none, (base, none))
    raw = [scipy.stats.ttest_rel((near + k).numpy(), base.numpy()).pvalue for k in range(2)]
    inpainting.adjust(rows)
    assert [rows[name]["psnr_gain"][3] for name in ("one", "two")] == pytest.approx(holm(raw))
    assert rows["one"]["others_accuracy_gain"][0] == pytest.approx(float(right["resnet56"][0].mean()))
    assert rows["one"]["judge_accuracy_gain"][0] == pytest.approx(float(right["plain"][0].mean()))
    assert "others_loss_gain" in inpainting.line("one", {**rows["one"], "seconds": 0.0})


def test_rows_without_a_class_stand_beside_their_controls(program, monkeypatch, capsys) -> None:
    unconditional = program("unconditional")
    source = torch.Generator().manual_seed(1)
    drawn = {name: torch.randn(12, 3, generator=source) for name in ("dsf", "statistics_tv_20_steps", "sampled")}
    monkeypatch.setattr(unconditional, "penultimate", lambda judge, images: (images, None))
    judge = type("Judge", (), {"name": "plain"})()
    real = torch.randn(30, 3, generator=source)
    seeds = {"dsf": [0.3, 0.4, 0.6], "statistics_tv_20_steps": [0.1, 0.1, 0.3], "sampled": [0.1, 0.2, 0.3]}
    found = {name: {"plain": {"kernel_of_seeds": values}} for name, values in seeds.items()}
    unconditional.beside_controls(found, drawn, [judge], {"plain": Reference(real, torch.zeros(30), "real")})
    said = found["dsf"]["plain"]
    assert said["control"] == "statistics_tv_20_steps"
    assert said["apart"] == list(kernel_difference(drawn["dsf"], drawn["statistics_tv_20_steps"], real))
    truth = scipy.stats.ttest_rel(seeds["dsf"], seeds["statistics_tv_20_steps"]).pvalue
    assert said["p_over_seeds_holm"] == pytest.approx(truth)
    assert "control" not in found["sampled"]["plain"]  # its control was not drawn
    assert "by Holm of 1 rows" in capsys.readouterr().out


def test_a_table_of_several_seeds_has_the_interval_of_shares_and_says_how_many(program, tmp_path) -> None:
    page, controls = program("prg_page"), program("prg_controls")
    rows = [{"arm": "prg", "labels": "500", "seed": str(seed), "accuracy": str(value), "low": "", "high": "",
             "pictures": "2000", "corrupted": "", "seconds": "1", "calls": "3", "parameters": "1000000"}
            for seed, value in enumerate((0.91, 0.98, 0.99))]  # fmt: skip
    assert page.reached(rows) == share_interval([0.91, 0.98, 0.99], 2000)._asdict()
    for row in rows:
        controls.write(tmp_path / "rows.csv", controls.COLUMNS, {key: row.get(key, "") for key in controls.COLUMNS})
    assert controls.table(tmp_path / "rows.csv").startswith("*3 seeds*\n")
    one = [{**rows[0], "low": "0.9", "high": "0.92"}]
    assert page.reached(one) == {"value": 0.91, "low": 0.9, "high": 0.92}
    assert math.isfinite(page.reached(rows)["high"])
    assert page.reached(rows)["high"] < 1
