"""The score of every kind of model by each engine, beside a double backward pass written out, in double precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from bothways import dsf_score, load_model
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from zoo import SIZE, ZOO

SINGLE = {"dinov2"}  # it resizes its positions in single precision
EXACT = ("double_backward", "jvp")


def written_out(model: Adapter, image: Tensor) -> tuple[Tensor, Tensor]:
    """-grad_x ||grad_theta 1/2 ||f(x; stop theta) - f(mirrored x; theta)||^2 || of one picture, and the norm."""
    mean, std = (torch.tensor(v, dtype=image.dtype).view(3, 1, 1) for v in (model.spec.mean, model.spec.std))
    stopped = {name: value.detach() for name, value in model.module.named_parameters()}
    live = {name: value.clone().requires_grad_() for name, value in stopped.items()}
    x = image[None].clone().requires_grad_()

    def f(theta: dict[str, Tensor], seen: Tensor) -> Tensor:
        return functional_call(model.module, theta, ((seen - mean) / std,)).flatten(1)

    with sdpa_kernel(SDPBackend.MATH):
        loss = 0.5 * (f(stopped, x) - f(live, x.flip(3))).square().sum()
        found = torch.autograd.grad(loss, list(live.values()), create_graph=True, materialize_grads=True)
        norm = torch.stack([part.square().sum() for part in found]).sum().sqrt()
        return -torch.autograd.grad(norm, x)[0][0], norm.detach()


@pytest.fixture(scope="module")
def truths() -> dict[str, tuple[Tensor, Tensor]]:
    return {}


@pytest.mark.parametrize("engine", [*EXACT, "difference"])
@pytest.mark.parametrize("kind", list(ZOO))
def test_each_engine_scores_each_kind(
    zoo: Callable[[str], str], truths: dict[str, tuple[Tensor, Tensor]], kind: str, engine: str
) -> None:
    loaded = load_model(zoo(kind))
    model = Adapter(loaded.module.double(), loaded.spec)
    images = Draws(range(2)).uniform((3, SIZE, SIZE)).double()
    if kind not in truths:
        scores, norms = zip(*(written_out(model, image) for image in images), strict=True)
        truths[kind] = torch.stack(scores), torch.stack(norms)
    score, norm = truths[kind]
    size = score.abs().max()
    assert size > 0
    epsilon = None if engine in EXACT else 1e-5 if kind in SINGLE else 1e-7
    found, length = dsf_score(model, images, engine=engine, epsilon=epsilon)
    tolerance = 1e-4 if kind in SINGLE or engine not in EXACT else 1e-9
    assert (length - norm).abs().max() < tolerance * norm.max()
    assert (found - score).abs().max() < tolerance * size
    if engine == "double_backward":  # as it is used, in single precision
        single, _ = dsf_score(load_model(zoo(kind)), images.float())
        assert (single.double() - score).abs().max() < 1e-3 * size


@pytest.mark.parametrize("kind", ["convnext", "vit", "dinov2", "detr", "clip"])
def test_features_are_scored_too(zoo: Callable[[str], str], kind: str) -> None:
    model = load_model(zoo(kind))
    images = Draws(range(2)).uniform((3, SIZE, SIZE))
    score, _ = dsf_score(model, images, surrogate="features")
    other, _ = dsf_score(model, images, surrogate="features", engine="jvp")
    assert score.abs().max() > 0
    assert (score - other).abs().max() < 1e-3 * score.abs().max()
