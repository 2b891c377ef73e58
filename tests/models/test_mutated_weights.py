"""Damaged safetensors, by seeds: what is loaded is finite and of a kind that multiplies, else a line names it."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bothways import ModelSpec, UserError, load_flow, load_model
from bothways.models.catalogue import read_statistics
from bothways.models.weights import load_weights
from bothways.tasks.spectrum.files import read_spectrum
from bothways.tasks.statistics.files import read_spread, stored_statistics
from guard import guarded, outcome
from mutated import KINDS, mutated_weights
from toy_model import seeded, spec

FILES = 60


def good() -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in seeded().state_dict().items()}


def test_mutated_weights_are_loaded_whole_or_named(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"

    def each() -> Counter[str]:
        found: Counter[str] = Counter()
        for number in range(FILES):
            file.write_bytes(mutated_weights(number, good()))
            module = seeded(seed=3)
            found[outcome(lambda: load_weights(module, file), str(file))] += 1  # noqa: B023
            assert all(bool(value.isfinite().all()) for value in module.state_dict().values()), number
        return found

    found = guarded(each, seconds=20, megabytes=400)
    assert found["result"] > 4
    assert found["line"] > 30


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_can_be_multiplied_is_cast_and_said_and_the_rest_is_refused(kind: torch.dtype, tmp_path: Path) -> None:
    file, name = tmp_path / "w.safetensors", str(kind).removeprefix("torch.")
    save_file({**good(), "head.weight": (4 * good()["head.weight"]).to(kind)}, file)
    if kind in (torch.float16, torch.bfloat16, torch.float64):
        with pytest.warns(UserWarning, match=f"1 of 14 tensors are of {name} and become float32"):
            model = load_model(seeded(seed=3), spec(), weights=file)
        assert torch.equal(model.module.head.weight, (4 * good()["head.weight"]).to(kind).float())
    else:
        scale = ", whose scale is not in the file" if "float8" in name else ""
        with pytest.raises(
            UserError, match=rf"w.safetensors': head.weight is of {name}{scale}; the model needs float32"
        ):
            load_model(seeded(seed=3), spec(), weights=file)


@pytest.mark.parametrize(("value", "told"), [(torch.nan, "nan"), (torch.inf, "inf"), (-torch.inf, "-inf")])
def test_a_tensor_that_is_not_finite_is_named(value: float, told: str, tmp_path: Path) -> None:
    tensors = good()
    tensors["body.1.running_var"][2] = value
    save_file(tensors, tmp_path / "w.safetensors")
    words = f"body.1.running_var holds 1 of 6 values that are not finite, the first {told}; give other weights"
    with pytest.raises(UserError, match=words):
        load_model(seeded(), spec(), weights=tmp_path / "w.safetensors")


def test_values_beyond_a_modules_own_precision_are_named(tmp_path: Path) -> None:
    save_file({**good(), "head.bias": torch.tensor([1.0, 1e6, 0.0, 0.0])}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"head.bias holds 1 of 4 .* the first 1e\+06, beyond float16"):
        load_weights(seeded().half(), tmp_path / "w.safetensors")


def test_a_mask_may_be_infinite_where_the_modules_own_is(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
            self.register_buffer("places", torch.arange(3))

    save_file({"mask": Masked().mask, "places": torch.arange(3.0)}, tmp_path / "w.safetensors")
    load_weights(Masked(), tmp_path / "w.safetensors")
    save_file({"mask": Masked().mask.T.contiguous(), "places": torch.arange(3)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="mask holds 1 of 4 values that are not finite, the first -inf"):
        load_weights(Masked(), tmp_path / "w.safetensors")
    save_file({"mask": Masked().mask, "places": torch.arange(3) + 0.5}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="places holds float32 that are no int64"):
        load_weights(Masked(), tmp_path / "w.safetensors")


def test_a_live_module_whose_weights_are_not_finite_is_refused_with_the_name() -> None:
    module = seeded()
    module.head.bias.data[1] = torch.nan
    with pytest.raises(UserError, match=r"model 'Toy': its parameter head.bias holds values that are not finite"):
        load_model(module, spec())
    network = nn.Conv2d(3, 3, 1)
    network.weight.data.fill_(torch.inf)
    with pytest.raises(UserError, match="flow 'Conv2d': its parameter weight holds values that are not finite"):
        load_flow(network, ModelSpec(4, 0.5, 0.5, 0, path="linear"))


@pytest.mark.parametrize("fact", ["mean", "std"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.5, float("nan"), 0.5]])
def test_facts_that_are_not_finite_are_refused(fact: str, value: object) -> None:
    facts = {"size": 8, "mean": 0.5, "std": 0.5, "classes": 3, fact: value}
    with pytest.raises(UserError, match="type three finite numbers"):
        ModelSpec(**facts)  # type: ignore[arg-type]


def test_a_card_whose_mean_is_not_finite_is_refused(tmp_path: Path) -> None:
    facts = {"size": 8, "mean": [0.5, float("nan"), 0.5], "std": [0.5] * 3, "classes": 3}
    card = {"network": {"name": "plain", "classes": 3}, "spec": facts}
    (tmp_path / "mine.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"mine.json: not JSON"):
        load_model(tmp_path / "mine.json")
    with pytest.raises(UserError, match="time_scale=nan; type a finite number"):
        ModelSpec(8, 0.5, 0.5, 0, path="linear", time_scale=float("nan"))


# ---- files of statistics and spectra -------------------------------------------------------------------------------


def test_mutated_statistics_and_spectra_are_read_or_named(tmp_path: Path) -> None:
    whole = {
        "magnitude": torch.rand(3, 16, 9),
        "mean": torch.rand(3),
        "count": torch.tensor([4]),
        "covariance": torch.eye(3),
    }
    spread = {f"spread/body/{part}": torch.rand(4) for part in ("mean", "mean_std", "log_std", "log_std_std")}
    measured = {**spread, "factor": torch.ones(2, 8, dtype=torch.int8), "factor_scale": torch.rand(2)}
    file = tmp_path / "mine.safetensors"
    found: Counter[str] = Counter()
    model = load_model(seeded(), spec())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(FILES // 2):
            for door, tensors in (
                (lambda: read_spectrum(file), whole),
                (lambda: read_spread(read_statistics(file)), measured),
                (lambda: stored_statistics(model, str(file)), measured),
            ):
                file.write_bytes(mutated_weights(number, tensors))
                found[outcome(door)] += 1
    assert found["line"] > 30
    assert found["result"] > 10
