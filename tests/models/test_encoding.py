"""Encode and decode, by an address, a flow or a callable, with any solver."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from bothways import UserError, decode, encode, load_flow, sample
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws
from bothways.registry import load_attribute
from bothways.representation.encode import Walk, walk
from small_flow import small_unet, write_small_flow, write_solver

OWN_FLOW = """
import torch
from PIL import Image
from bothways import ModelSpec

class Pull(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, x, t):
        return self.rate * x

def pull():
    return Pull(), ModelSpec(size=8, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, path="linear", time_scale=1)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small_flow(tmp_path_factory.mktemp("flow"), channel_order="grey"))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return Draws(range(3)).uniform((3, 8, 8))


def test_encode_takes_an_address_a_flow_or_a_callable(address: str, images: Tensor) -> None:
    flow = load_flow(address)
    truth = walk(flow, flow.code(images), 1.0, 0.5, Walk(steps=4))
    for given in (address, Path(address), Path(address) / "flow.json", flow):
        assert (encode(given, images, steps=4) - truth).abs().max() < 1e-6
    assert (encode(lambda x, t: flow(x, t), flow.code(images), steps=4) - truth).abs().max() < 1e-6
    whole = encode(address, images.double(), steps=4, solver="reversible-heun", full_state=True, dtype=torch.float64)
    back = decode(address, whole, steps=4, solver="reversible-heun", dtype=torch.float64)
    assert (back - images.double().mean(1, keepdim=True)).abs().max() < 1e-12
    with pytest.raises(UserError, match="depth"):
        encode(address, images, depth=2.0)


def test_files_and_pictures_of_several_sizes_are_fitted_one_by_one(address: str, tmp_path: Path) -> None:
    sizes = ((20, 10), (5, 5), (9, 30))
    pictures = [Image.new("RGB", size, (90, 10 * place, 200)) for place, size in enumerate(sizes)]
    pictures[0].save(tmp_path / "0.png")
    found = encode(address, [tmp_path / "0.png", *pictures[1:]], steps=1)
    alone = [encode(address, one, steps=1) for one in pictures]
    assert (found - torch.cat(alone)).abs().max() < 1e-6


def test_a_flow_of_ones_own_file_is_walked(tmp_path: Path, images: Tensor) -> None:
    (tmp_path / "mine.py").write_text(OWN_FLOW)
    walked = encode(f"{tmp_path / 'mine.py'}:pull", images, depth=1.0, steps=400, solver="rk4")
    assert (walked - (2 * images - 1) * torch.e).abs().max() < 1e-4  # x(0) = x(1) exp(1)
    assert not walked.requires_grad


def test_a_classifier_is_walked_by_the_flow_in_it(images: Tensor) -> None:
    big = torch.nn.functional.interpolate(images[:1], size=32)
    inner = load_flow("bundled:cifar10-prg")
    assert torch.equal(encode("bundled:cifar10-prg", big, 0.1, 1), encode(inner, big, 0.1, 1).detach())
    with pytest.raises(UserError, match=r"type bothways generate, predict or explain for it \(in Python load_model\)"):
        encode("timm:resnet18", big)


@pytest.mark.parametrize("gradient", ["exact", "direct"])
def test_a_solver_of_ones_own_walks_and_has_its_gradient(images: Tensor, tmp_path: Path, gradient: str) -> None:
    flow = Flow(small_unet(), load_flow(write_small_flow(tmp_path / "flow")).spec, "small")
    own = write_solver(tmp_path)
    found = {}
    for solver in ("midpoint", own, load_attribute(own, "solver")):
        flow.zero_grad()
        x = images[:2].clone().requires_grad_()
        walked = encode(flow, x, 0.5, 3, solver, gradient)
        walked.square().sum().backward()
        weights = torch.cat([p.grad.flatten() for p in flow.parameters() if p.grad is not None])
        found[str(solver)] = (walked.detach(), x.grad, weights, decode(flow, walked.detach(), 0.5, 3, solver).detach())
    truth, *others = found.values()
    assert len(others) == 2
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(truth, other, strict=True))


def test_a_solver_of_ones_own_samples(address: str, tmp_path: Path) -> None:
    own = write_solver(tmp_path)
    truth = sample(address, 2, steps=3, solver="midpoint").images
    assert torch.equal(sample(address, 2, steps=3, solver=own).images, truth)
    assert torch.equal(sample(address, 2, steps=3, solver=load_attribute(own, "solver")).images, truth)


def test_what_is_no_solver_is_refused_in_one_line(address: str, images: Tensor, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("def step(v, state, t, h):\n    return state\n")
    with pytest.raises(UserError, match="decorate it with @fixed_grid"):
        encode(address, images, solver=f"{tmp_path / 'plain.py'}:step")
    with pytest.raises(UserError, match="has no function 'stepp'"):
        encode(address, images, solver=f"{tmp_path / 'plain.py'}:stepp")
    with pytest.raises(UserError, match='has no gradient="adjoint"'):
        encode(address, images, solver=write_solver(tmp_path), gradient="adjoint")
