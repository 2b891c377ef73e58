"""Likeness to another picture: products of channels against formulas by hand, and which layers are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bothways.models.adapter import Adapter
from bothways.models.loader import load_model
from bothways.synthesis.objectives.likeness import Content, Style, channel_products, layer_at, style, style_statistics
from bothways.types import UserError

TOY = f"{Path(__file__).parents[1] / 'toy_model.py'}:build"


class Maps:
    """A model whose layers are two linear maps of the picture's channels, and their map coarser by two."""

    name = "maps"

    def __init__(self) -> None:
        source = torch.Generator().manual_seed(1)
        self.mix = torch.randn(4, 3, dtype=torch.float64, generator=source)

    def features(self, image: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        fine = torch.einsum("dc,bchw->bdhw", self.mix, image)
        return {"fine": fine, "coarse": torch.nn.functional.avg_pool2d(fine, 2).square()}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_products_of_channels_are_the_mean_over_positions_of_maps_tokens_and_vectors() -> None:
    maps = random(2, 3, 4, 5)
    by_hand = torch.zeros(2, 3, 3, dtype=torch.float64)
    for row in range(4):
        for column in range(5):
            at = maps[:, :, row, column]
            by_hand += at[:, :, None] * at[:, None, :] / 20
    assert (channel_products(maps) - by_hand).abs().max() < 1e-14
    assert (channel_products(maps.flatten(2).transpose(1, 2)) - by_hand).abs().max() < 1e-14
    vector = random(2, 3)
    assert torch.equal(channel_products(vector), vector[:, :, None] * vector[:, None, :])


def test_the_gram_loss_and_its_gradient_are_those_of_the_formula() -> None:
    """With one layer G = M X X^T M^T / P, d/dX ||G - T||^2 / ||T||^2 = 4 M^T (G - T) M X / (P ||T||^2)."""
    model, wanted = Maps(), random(1, 3, 6, 6, seed=3)  # of another size
    image = random(2, 3, 4, 4, seed=2).requires_grad_()
    targets = style_statistics(model, wanted, ("fine", "coarse"), "gram")
    both = style(model, targets, "gram")(image)
    alone = [style(model, {layer: targets[layer]}, "gram")(image) for layer in targets]
    assert (both - sum(alone) / 2).abs().max() < 1e-14
    flat, mix = image.detach().flatten(2), model.mix
    products, target = mix @ flat @ flat.transpose(1, 2) @ mix.T / 16, targets["fine"]
    norm = target.square().sum()
    assert (alone[0] + (products - target).square().sum((1, 2)) / norm).abs().max() < 1e-9
    found = torch.autograd.grad(alone[0].sum(), image)[0]
    by_hand = -4 * (mix.T @ (products - target) @ mix @ flat).view_as(image) / (16 * norm)
    assert (found - by_hand).abs().max() < 1e-7 * by_hand.abs().max()
    assert torch.autograd.gradcheck(style(model, targets, "gram"), image)


def test_the_gram_loss_sees_what_moments_of_channels_do_not() -> None:
    """A channel turned around has the same mean and deviation, and other products with the rest."""
    model, picture = Maps(), random(1, 3, 8, 8)
    model.mix = torch.eye(3, dtype=torch.float64)
    turned = torch.cat([picture[:, :1].flip(-1), picture[:, 1:]], 1)
    for form, least, most in (("moments", 0.0, 1e-14), ("gram", 1e-5, 1.0)):
        far = -style(model, style_statistics(model, turned, ("fine",), form), form)(picture)
        assert least <= float(far) <= most
        assert float(style(model, style_statistics(model, picture, ("fine",), form), form)(picture).abs()) == 0


def test_the_copies_of_a_picture_are_compared_with_its_own_style() -> None:
    model, wanted = Maps(), random(2, 3, 4, 4, seed=5)
    term = style(model, style_statistics(model, wanted, ("fine",), "gram"), "gram")
    seen = model.features(wanted.repeat_interleave(3, 0), ("fine",))
    assert term.measure(seen, 2).abs().max() < 1e-20
    assert (term.measure(model.features(wanted.flip(0).repeat_interleave(3, 0), ("fine",)), 2) < -1e-4).all()


def test_depth_and_every_choose_among_the_layers_of_statistics() -> None:
    model: Adapter = load_model(TOY)
    layers = model.statistics_layers()
    assert Style().layers_of(model) == tuple(layers)
    assert Style(depth=0.5).layers_of(model) == tuple(layers[: -(-len(layers) // 2)])
    assert Style(every=2).layers_of(model) == tuple(layers[::2])
    assert Style(layers=["body"], depth=0.1).layers_of(model) == ("body",)
    assert layer_at(model, Content().depth) == layers[len(layers) // 2]
    assert layer_at(model, 0.0) == layers[0]
    with pytest.raises(UserError, match="depth"):
        Style(depth=0.0)
    with pytest.raises(UserError, match="form"):
        Style(form="covariance")
