"""State dicts as trainers write them: behind one prefix, which is left out and said; several sets are refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bothways import ModelSpec, UserError, load_flow, load_model
from bothways.models.weights import load_weights
from bothways.numerics.draws import generator

SPEC = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 4)


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )


def written(path: Path, *prefixes: str, **more: Tensor) -> Path:
    tensors = {f"{prefix}{key}": value.clone() for prefix in prefixes for key, value in net().state_dict().items()}
    save_file({**tensors, **more}, path)
    return path


def image() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=generator(1))


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "ema_model.module.", "model._orig_mod.", "teacher.backbone."]
)
def test_one_prefix_of_all_names_is_left_out_and_said(prefix: str, tmp_path: Path) -> None:
    path, wanted = written(tmp_path / "w.safetensors", prefix), load_model(net(), SPEC).outputs(image())
    said = prefix.replace("_orig_mod.", "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load_model(net(seed=5), SPEC, weights=path)
    assert torch.equal(model.outputs(image()), wanted)
    # what was compiled is the same module under a longer name, and needs no note
    assert [str(note.message) for note in caught] == (
        [f"weights '{path}': the names in the file begin with {said!r}, which is left out"] if said else []
    )


def test_a_module_that_wraps_another_takes_the_weights_of_that(tmp_path: Path) -> None:
    path, wanted = written(tmp_path / "w.safetensors", ""), load_model(net(), SPEC).outputs(image())

    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    with pytest.warns(UserWarning, match="names in the model begin with 'module.'"):
        wrapped = load_model(Wrapped(net(seed=5)), SPEC, weights=path)
    assert (wrapped.outputs(image()) - wanted).abs().max() < 1e-6
    for taken_off in (nn.DataParallel(net(seed=5)), torch.compile(net(seed=5), backend="eager")):
        assert (load_model(taken_off, SPEC, weights=path).outputs(image()) - wanted).abs().max() < 1e-6


def test_so_does_a_flow(tmp_path: Path) -> None:
    class Velocity(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.conv(x)

    spec = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear")
    save_file({f"ema_model.{k}": v for k, v in Velocity(1).state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="begin with 'ema_model.'"):
        flow = load_flow(Velocity(2), spec, weights=tmp_path / "w.safetensors")
    x, t = image(), torch.tensor([0.1, 0.9])
    assert torch.equal(flow(x, t), load_flow(Velocity(1), spec)(x, t))


def test_several_sets_are_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", "online_model.", "ema_model.module.", step=torch.ones(1))
    with pytest.raises(UserError, match=r"only those behind 'ema_model.module.' or 'online_model.'") as caught:
        load_weights(net(), path)
    assert "\n" not in str(caught.value)


def test_a_prefix_that_does_not_make_all_fit_changes_nothing(tmp_path: Path) -> None:
    target = net(seed=5)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    for more in ({"step": torch.ones(1)}, {"module.7.weight": torch.ones(2)}):
        path = written(tmp_path / "w.safetensors", "module.", **more)
        with pytest.raises(UserError, match="do not fit the model"):
            load_weights(target, path)
    path = tmp_path / "w.safetensors"
    save_file({f"module.{key}": value[:2].clone() if value.ndim else value for key, value in before.items()}, path)
    with pytest.raises(UserError, match="do not fit the model"):
        load_weights(target, path)
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())
