"""Every reading of the score by each engine, beside torch.autograd written out by hand, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.synthesis.dsf.score import dsf_score
from bothways.synthesis.dsf.substitutes import BETA
from bothways.synthesis.views.colour import Colour
from bothways.synthesis.views.crop import Zoom
from bothways.types import ModelSpec, UserError

ENGINES = ("double_backward", "jvp", "difference")
SPEC = ModelSpec(10, (0.5, 0.4, 0.6), (0.25, 0.3, 0.2), 4, feature_layer="body")
SEEDS = (5, 2, 9)


class Net(nn.Module):
    """Two convolutions with BatchNorm and a head."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        first = [nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), activation()]
        self.body = nn.Sequential(*first, nn.Conv2d(5, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), activation())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def net(activation: Callable[[], nn.Module] = nn.SiLU) -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(4)
        module = Net(activation).double()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.data.uniform_(0.5, 1.5)
    return module


def pictures() -> Tensor:
    return torch.rand(3, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(module: nn.Module, image: Tensor, distance: Callable[[dict[str, Tensor]], Tensor], **how: Any) -> Tensor:
    """-grad_x D(grad_theta l) of one batch and its mean loss, straight from the definition.

    how: target, residual, draws of lambda (B,D), view (B,3,H,W) -> (B,3,H,W), train.
    """
    mean, std = (torch.tensor(v, dtype=image.dtype).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    module = copy.deepcopy(module).train(how.get("train", False))
    theta = {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}
    x = image.clone().requires_grad_()
    stopped = {name: value.detach() for name, value in theta.items()}
    target = functional_call(module, stopped, ((x - mean) / std,))
    answer = functional_call(module, theta, ((how.get("view", lambda seen: seen.flip(3))(x) - mean) / std,))
    residual = answer - target
    if how.get("residual", "live") == "live":
        if how.get("target") == "detached":
            residual = answer - target.detach()
        loss = 0.5 * (residual**2).sum(1).mean()
    else:
        weight = residual.detach()
        if how["residual"] == "random":
            weight = weight.norm(dim=1, keepdim=True) * F.normalize(how["draws"].to(weight), dim=1)
        loss = (weight * answer).sum(1).mean()
    g = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
    return -torch.autograd.grad(distance(dict(zip(theta, g, strict=True))), x)[0]


def flat(parts: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts.values()])


def length(of: Tensor) -> Tensor:
    """With the 1e-12 that the score adds to the square."""
    return (of @ of + 1e-12).sqrt()


def norm(g: dict[str, Tensor]) -> Tensor:
    return length(flat(g))


def off(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest number wanted."""
    assert wanted.abs().max() > 0
    return float((found - wanted).abs().max() / wanted.abs().max())


def check(model: Adapter, wanted: Tensor, **options: Any) -> None:
    """All engines give the score, the exact ones to rounding."""
    for engine in ENGINES:
        epsilon = 1e-6 if engine == "difference" else None
        found, _ = dsf_score(model, pictures(), engine=engine, epsilon=epsilon, draws=Draws(SEEDS), **options)
        assert off(found, wanted) < (1e-5 if epsilon else 1e-11), engine


def each(module: nn.Module, distance: Callable[[dict[str, Tensor]], Tensor], **how: Any) -> Tensor:
    """``by_hand`` of every picture alone."""
    found = []
    for row, picture in enumerate(pictures()):
        own = how | ({"draws": how["draws"][row : row + 1]} if "draws" in how else {})
        found.append(by_hand(module, picture[None], distance, **own))
    return torch.cat(found)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_lambda_may_be_held_or_random_and_the_target_a_constant(per: str) -> None:
    module = net()
    model, scored = (
        Adapter(module, SPEC),
        each if per == "image" else lambda *a, **k: by_hand(a[0], pictures(), *a[1:], **k),
    )
    drawn = Draws(SEEDS).normal((1, 4), 0.0, "dsf lambda")[:, 0]
    wanted = {
        "held": scored(module, norm, residual="held"),
        "random": scored(module, norm, residual="random", draws=drawn),
        "detached": scored(module, norm, target="detached"),
        "live": scored(module, norm),
    }
    for residual in ("held", "random"):
        check(model, wanted[residual], residual=residual, per=per)
    check(model, wanted["detached"], target="detached", per=per)
    for one in ("held", "random", "detached"):  # they are readings of their own
        assert off(wanted[one], wanted["live"]) > 0.1


@pytest.mark.parametrize("per", ["image", "batch"])
def test_a_random_direction_has_the_length_of_the_score_and_nothing_else_of_it(per: str) -> None:
    """z ||s|| / ||z|| in each picture, z of the picture's own seed and of the time; the norm of g stays."""
    model, draws = Adapter(net(), SPEC), Draws(SEEDS)
    z = draws.normal((3, 10, 10), 0.5, "dsf direction").double()
    module = model.module
    wanted = each(module, norm) if per == "image" else by_hand(module, pictures(), norm)
    wanted = z * (wanted.square().sum((1, 2, 3)) / z.square().sum((1, 2, 3))).sqrt().view(3, 1, 1, 1)
    found, length_of_g = dsf_score(model, pictures(), per=per, direction="random", draws=draws, t=0.5)
    assert off(found, wanted) < 1e-11
    assert torch.equal(length_of_g, dsf_score(model, pictures(), per=per, draws=draws, t=0.5)[1])
    later, _ = dsf_score(model, pictures(), per=per, direction="random", draws=draws, t=0.25)
    assert off(later, wanted) > 0.1


def test_the_norm_of_a_held_lambda_is_that_of_the_gradient() -> None:
    model = Adapter(net(), SPEC)
    live, held, other = (dsf_score(model, pictures(), residual=r)[1] for r in ("live", "held", "random"))
    assert off(held, live) < 1e-12
    assert off(other, live) > 1e-2
    for per, branch in (("image", "augmented"), ("image", "original"), ("batch", "original")):
        several = {"augmentation": "crop+colour", "copies": 3, "live": branch, "per": per}
        live, held = (dsf_score(model, pictures(), residual=r, **several)[1] for r in ("live", "held"))
        assert off(held, live) < 1e-12


def test_a_random_lambda_has_one_direction_for_all_views_of_a_picture() -> None:
    """Of a linear map z = W u, g = sum_k lambda_k u_k^T / K: of rank one where all lambda_k are parallel."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(300, 4, bias=False)).double()
    model = Adapter(module, ModelSpec(10, SPEC.mean, SPEC.std, 4))
    draws, image = Draws(SEEDS), pictures()
    views = Zoom()(image[:, None].expand(-1, 3, -1, -1, -1), draws, 0.5)
    residual = model.outputs(views.flatten(0, 1)).unflatten(0, (3, 3)) - model.outputs(image)[:, None]
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    u = ((views - mean) / std).flatten(2)
    # ||lambda u^T|| = ||lambda|| ||u||, and the direction of lambda drops out
    wanted = (residual.norm(dim=2, keepdim=True) * u).mean(1).norm(dim=1)
    found = dsf_score(model, image, residual="random", augmentation="crop", copies=3, draws=draws, t=0.5)[1]
    assert off(found, wanted.detach()) < 1e-12


def test_held_lambda_of_other_surrogates() -> None:
    """KL: lambda = softmax(live) - softmax(target); cross-entropy to the target's class: softmax(live) - one-hot."""
    module, image = net(), pictures()
    model = Adapter(module, SPEC)
    for surrogate in ("kl", "pseudo-label"):
        live, target = model.outputs(image.flip(3)).detach(), model.outputs(image).detach()
        stated = target.softmax(1) if surrogate == "kl" else F.one_hot(target.argmax(1), 4).double()
        weight = live.softmax(1) - stated
        theta = {name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()}
        x = image.clone().requires_grad_()
        answer = model.features_with(theta, x.flip(3), ["outputs"])["outputs"]
        g = torch.autograd.grad((weight * answer).sum(1).mean(), list(theta.values()), create_graph=True)
        score = -torch.autograd.grad(length(torch.cat([part.flatten() for part in g])), x)[0]
        check(model, score, surrogate=surrogate, residual="held", per="batch")


@pytest.mark.parametrize("per", ["image", "batch"])
def test_distances_of_the_gradient(per: str) -> None:
    module = net()
    theta = {name: value.detach() for name, value in module.named_parameters()}

    def layers(g: dict[str, Tensor]) -> Tensor:
        modules = sorted({name.rpartition(".")[0] for name in g})
        assert len(modules) == 5
        return sum(length(flat({n: v for n, v in g.items() if n.rpartition(".")[0] == m})) for m in modules)

    distances = {"l2": lambda g: length(flat(g) + flat(theta)), "inner": lambda g: flat(g) @ flat(theta)}
    for name, distance in (distances | {"layers": layers}).items():
        wanted = each(module, distance) if per == "image" else by_hand(module, pictures(), distance)
        check(Adapter(module, SPEC), wanted, distance=name, per=per)
    assert all(torch.equal(value, theta[name]) for name, value in net().named_parameters())  # no engine wrote into it


def test_the_gradient_may_be_clipped_as_torch_clips_it() -> None:
    module = net()
    model = Adapter(module, SPEC)
    limit = float(dsf_score(model, pictures())[1].min()) / 20

    def clipped(g: dict[str, Tensor]) -> Tensor:
        kept = []
        for part in g.values():
            leaf = nn.Parameter(torch.zeros_like(part))
            leaf.grad = part.detach().clone()
            nn.utils.clip_grad_value_([leaf], limit)
            kept.append(part + (leaf.grad - part).detach())
        assert any((k - p).abs().max() > 0 for k, p in zip(kept, g.values(), strict=True))
        return length(torch.cat([part.flatten() for part in kept]))

    check(model, each(module, clipped), gradient_clip=limit)
    lengths = dsf_score(model, pictures(), gradient_clip=limit)[1], dsf_score(model, pictures())[1]  # by two ways
    assert torch.allclose(*lengths, rtol=1e-12, atol=0)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_softplus_takes_the_place_of_relu(per: str) -> None:
    for kinked, smooth in (
        (nn.ReLU, lambda: nn.Softplus(BETA)),
        (lambda: Calling(torch.relu), lambda: nn.Softplus(BETA)),
        (lambda: Calling(Tensor.relu_), lambda: nn.Softplus(BETA)),
        (nn.ReLU6, lambda: Calling(lambda x: F.softplus(x, BETA) - F.softplus(x - 6, BETA))),
    ):
        wanted = each(net(smooth), norm) if per == "image" else by_hand(net(smooth), pictures(), norm)
        check(Adapter(net(kinked), SPEC), wanted, relu="softplus", per=per)


class Calling(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_batch_norm_in_train_mode_leaves_the_running_statistics() -> None:
    module = net()
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    check(Adapter(module, SPEC), by_hand(module, pictures(), norm, train=True), batch_norm="train", per="batch")
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())
    model = Adapter(net(nn.ReLU), SPEC)
    smooth = by_hand(net(lambda: nn.Softplus(BETA)), pictures(), norm, train=True, residual="held")
    check(model, smooth, batch_norm="train", relu="softplus", per="batch", residual="held")


def test_the_last_modules_are_those_of_the_last_parameters() -> None:
    model = Adapter(net(), SPEC)
    for last, pattern in ((1, "head.*"), (2, r"^(head|body\.4)\."), (5, None), (9, None)):
        for found, wanted in zip(
            dsf_score(model, pictures(), last=last), dsf_score(model, pictures(), parameters=pattern), strict=True
        ):
            assert torch.equal(found, wanted)


def test_several_crops_in_other_colours_are_averaged() -> None:
    module, draws = net(), Draws(SEEDS)
    model = Adapter(module, SPEC)
    seen = Colour()(Zoom()(pictures()[:, None].expand(-1, 3, -1, -1, -1), draws, 0.5), draws, 0.5)
    assert off(seen[:, 0], seen[:, 1]) > 0.1
    x, theta = pictures().requires_grad_(), {n: v.clone().requires_grad_() for n, v in model.parameters().items()}
    views = Colour()(Zoom()(x[:, None].expand(-1, 3, -1, -1, -1), draws, 0.5), draws, 0.5)
    answer = model.features_with(theta, views.flatten(0, 1), ["outputs"])["outputs"].unflatten(0, (3, 3))
    loss = 0.5 * (answer - model.outputs(x)[:, None]).square().sum(2).mean()
    g = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
    wanted = -torch.autograd.grad(length(torch.cat([part.flatten() for part in g])), x)[0]
    check(model, wanted, augmentation="crop+colour", copies=3, t=0.5, per="batch")


def test_colours_by_formula() -> None:
    x = Draws(SEEDS).uniform((3, 4, 4)).double()[:, None].expand(-1, 2, -1, -1, -1)
    found = Colour(0.3)(x, Draws(SEEDS), 0.25)
    factors = 1 + 0.3 * (2 * Draws(SEEDS).uniform((2, 3, 1, 1, 1), 0.25, "colour").double() - 1)
    for row in range(3):
        for copy_ in range(2):
            b, c, s = factors[row, copy_].flatten()
            r = b * x[row, copy_]
            light = 0.299 * r[0] + 0.587 * r[1] + 0.114 * r[2]
            r = light.mean() + c * (r - light.mean())
            light = 0.299 * r[0] + 0.587 * r[1] + 0.114 * r[2]
            assert (found[row, copy_] - (light + s * (r - light)).clamp(0, 1)).abs().max() < 1e-7
    assert torch.equal(Colour(0.0)(x, Draws(SEEDS), 0.0), x) or Colour(0.0).idle


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"residual": "helt"}, 'did you mean "held"'),
        ({"target": "no"}, "attached, detached"),
        ({"distance": "l3"}, "l2"),
        ({"relu": "gelu"}, "softplus"),
        ({"direction": "randon"}, 'did you mean "random"'),
        ({"batch_norm": "train"}, 'type per="batch"'),
        ({"batch_norm": "off", "per": "batch"}, "eval, train"),
        ({"residual": "held", "target": "detached"}, 'leave target="detached" out'),
        ({"gradient_clip": 0.0}, "gradient_clip=0.0"),
        ({"gradient_clip": 1.0, "distance": "inner"}, 'other than "inner"'),
        ({"last": 0}, "last=0"),
        ({"copies": 0}, "copies=0"),
        ({"augmentation": "crop+colur"}, '"colour"'),
        ({"relu": "softplus"}, "which has no ReLU; leave it out"),
        ({"relu": "softplus", "chunk": 1}, "which has no ReLU; leave it out"),
    ],
)
def test_a_mistake_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        dsf_score(Adapter(net(), SPEC), pictures(), **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_without_batch_norm_says_so() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(300, 4)).double()
    for engine in ENGINES:
        with pytest.raises(UserError, match="no BatchNorm; leave it out"):
            dsf_score(
                Adapter(module, ModelSpec(10, (0.5,) * 3, (0.5,) * 3, 4)),
                pictures(),
                engine=engine,
                batch_norm="train",
                per="batch",
            )
