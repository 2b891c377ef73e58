"""Surrogate losses of the DSF between two views, and distances of their parameter gradient.

l(x) = mean_k d(f(A_k(x)), f(x)),   with a stop-gradient on theta in one of the two branches
D(g) = the distance of g = grad_theta l(x) to -theta,   v = dD/dg
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from re import error, search
from typing import Any

import torch
from torch import Tensor, nn

from bothways import registry
from bothways.brief import shown
from bothways.numerics.draws import Draws
from bothways.numerics.modules import all_scripted, is_unseen
from bothways.synthesis.objectives.terms import features_layer, vectors
from bothways.synthesis.views import View, usual_view
from bothways.types import TrainedModel, UserError

Named = dict[str, Tensor]
SMALL = 1e-12  # added to ||g||^2: a mirror-symmetric picture has g = 0, where the root is not differentiable
FAR = 4.0  # beyond [0, 1]: no picture, and no noise around one


# ---- the loss ------------------------------------------------------------------------------------------------------


def squared_distance(live: Tensor, target: Tensor) -> Tensor:
    """Squared distance 1/2 ||live - target||^2 over the last dimension (DSF, eq. 11)."""
    return 0.5 * (live - target).square().sum(-1)


def divergence(live: Tensor, target: Tensor) -> Tensor:
    """KL divergence KL(softmax target || softmax live)."""
    log_target = target.log_softmax(-1)
    return (log_target.exp() * (log_target - live.log_softmax(-1))).sum(-1)


def pseudo_label(live: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy to the pseudo-label, -log softmax(live)[argmax target]; no gradient in the target."""
    return -torch.take_along_dim(live.log_softmax(-1), target.argmax(-1, keepdim=True), -1).squeeze(-1)


SURROGATES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logits": squared_distance,
    "kl": divergence,
    "pseudo-label": pseudo_label,
    "features": squared_distance,
}


def weighted(live: Tensor, weight: Tensor) -> Tensor:
    """<live, lambda>: the loss whose parameter gradient is J^T lambda, for a lambda that does not depend on x."""
    return (live * weight).sum(-1)


DISTANCES = ("norm", "log", "angle", "l2", "inner", "layers")


@dataclass(frozen=True, repr=False)  # torch.func takes the repr of a function, which would format all tensors
class Loss:
    """Surrogate loss l of n pictures and their views, as a function of ``theta``; other parameters are ``fixed``."""

    model: TrainedModel
    layer: str
    measure: Callable[[Tensor, Tensor], Tensor]
    distance: str
    theta: Named
    fixed: Named
    clip: float | None = None

    def read(self, theta: Named, pictures: Tensor) -> Tensor:
        """Model outputs f (n,c,D) of c views of n pictures (n,c,3,H,W)."""
        seen = self.model.features_with({**self.fixed, **theta}, pictures.flatten(0, 1), [self.layer])[self.layer]
        return vectors(seen, self.layer).unflatten(0, pictures.shape[:2])

    def __call__(self, theta: Named, live: Tensor, answer: Tensor) -> Tensor:
        """Mean loss over pictures and views. live: (n,c,3,H,W); answer: ``read`` of the stopped branch."""
        return self.measure(self.read(theta, live), answer).mean()

    def direction(self, gradient: Named) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Derivative v = dD/dg at g, held fixed, as (u, scale, ||g||) with v = scale u.

        norm    D = ||g|| (- ||theta||, which has no gradient in x)    v = g / ||g||
        log     D = 1/2 log ||g||^2                                    v = g / ||g||^2
        angle   D = 1 - cos(g, -theta)                                 v = (theta' - <g, theta'> g / ||g||^2) / ||g||
        l2      D = ||g - (-theta)||                                   v = (g + theta) / ||g + theta||
        inner   D = - <g, -theta>                                      v = theta
        layers  D = sum over modules of ||g of its parameters||        v = g / ||g of the module||

        with theta' = theta / ||theta||, and 1e-12 added to ||g||^2. For the angle v = 0 if ||g||^2 is below that.
        With ``clip``, v is that of g with every number within +-clip; the norm stays that of g.
        The scale is separate since v has the size of all parameters, for every picture.
        """
        g = {name: value.detach() for name, value in gradient.items()}
        length = global_norm(g)
        if self.clip is not None:
            g = {name: value.clamp(-self.clip, self.clip) for name, value in g.items()}
        return *self._direction(g), length

    def _direction(self, g: Named) -> tuple[dict[str, Tensor], Tensor]:
        if self.distance == "inner":
            # copies, since an engine may write into its direction
            return {name: self.theta[name].clone() for name in g}, torch.ones_like(global_norm(g))
        if self.distance == "layers":
            norms = [(part, 1 / (global_norm(part).square() + SMALL).sqrt()) for part in by_module(g)]
            scaled = {name: scale * value for part, scale in norms for name, value in part.items()}
            return scaled, torch.ones_like(norms[0][1])
        if self.distance == "l2":
            g = {name: value + self.theta[name] for name, value in g.items()}
        norm = global_norm(g)
        squared = norm.square() + SMALL
        if self.distance != "angle":
            return g, 1 / squared if self.distance == "log" else 1 / squared.sqrt()
        weight = 1 / global_norm(self.theta).clamp_min(SMALL)
        back = weight * inner(g, self.theta) / squared
        return (
            {name: weight * self.theta[name] - back * g[name] for name in g},
            (norm > SMALL**0.5) / squared.sqrt(),
        )


def global_norm(parts: Named) -> Tensor:
    """Global L2 norm over all tensors."""
    return torch.stack([torch.linalg.vector_norm(part) for part in parts.values()]).norm()


def inner(a: Named, b: Named) -> Tensor:
    """Global inner product <a, b> over all tensors."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def by_module(parts: Named) -> list[Named]:
    """The parts in groups of one module: a weight with its bias."""
    groups: dict[str, Named] = {}
    for name, part in parts.items():
        groups.setdefault(name.rpartition(".")[0], {})[name] = part
    return list(groups.values())


def loss_of(
    model: TrainedModel,
    surrogate: str,
    distance: str,
    pattern: str | None,
    last: int | None = None,
    clip: float | None = None,
) -> Loss:
    """Build the surrogate loss from its names. Raises UserError if the model lacks parameters or a feature layer."""
    check_choice("surrogate", surrogate, SURROGATES)
    check_choice("distance", distance, DISTANCES)
    check_count("last", last, "modules")
    if clip is not None and (not isinstance(clip, int | float) or not clip > 0 or distance == "inner"):
        raise UserError(
            f'dsf: gradient_clip={shown(clip)}; type a positive number, and a distance other than "inner" with it'
        )
    if not isinstance(model, TrainedModel):
        raise UserError(
            f"dsf needs the model's parameters, and {type(model).__name__} has no features_with; "
            "wrap the module: bothways.load_model(module, spec)"
        )
    layer = features_layer(model) if surrogate == "features" else "outputs"
    if layer is None:
        raise UserError(
            f'dsf: model {model.name!r} has no feature layer; name its last block in ModelSpec(feature_layer="..."), '
            'or type surrogate="logits"'
        )
    fixed = dict(model.parameters())
    theta = matching_parameters(fixed, pattern, model.name)
    if last is not None:
        theta = {name: value for part in by_module(theta)[-last:] for name, value in part.items()}
    module = getattr(model, "module", None)
    if isinstance(module, nn.Module) and all_scripted(module, theta):
        raise UserError(
            f"dsf: model {model.name!r} is of TorchScript, whose parameters cannot be replaced in a call, as the score "
            "needs; give the module as written"
        )
    if not theta:
        raise UserError(
            f"dsf: model {model.name!r} has no parameters, whose gradient the score is of; type another recipe"
        )
    return Loss(model, layer, SURROGATES[surrogate], distance, theta, fixed, clip)


def matching_parameters(parameters: Named, pattern: str | None, model: str) -> Named:
    """Parameters whose names match a glob, else a regular expression (search); all for None.

    Raises UserError with the nearest names if none matches.
    """
    if pattern is None:
        return parameters
    names = [name for name in parameters if fnmatchcase(name, pattern)]
    with suppress(error):  # a glob such as "*.weight" need not be a regular expression
        names = names or [name for name in parameters if search(pattern, name)]
    if not names:
        near = get_close_matches(pattern, list(parameters), n=5, cutoff=0.3)
        raise UserError(
            f"dsf: no parameter of {model!r} matches {pattern!r}; the nearest are {', '.join(near) or 'none'}; "
            'type a glob such as "*.weight"'
        )
    return {name: parameters[name] for name in names}


# ---- the views -----------------------------------------------------------------------------------------------------


def views(
    image: Tensor, augmentation: str | View | Sequence[str | View], draws: Draws, t: float, copies: int = 1
) -> Tensor:
    """Views (N,K copies,3,h,w): copies of each picture (N,3,H,W) under each of K augmentations, differentiable in it.

    Raises UserError for an unknown name, and for views of different sizes.
    """
    some = augmentation if isinstance(augmentation, Sequence) and not isinstance(augmentation, str) else [augmentation]
    if not some:
        raise UserError('dsf: augmentation is empty; type augmentation="flip"')
    side = min(image.shape[-2:])
    several = image[:, None].expand(-1, copies, -1, -1, -1)
    seen = []
    for each in some:
        view = several
        for step in _steps(each, side):
            view = step(view, draws, t)
        seen.append(view)
    if len({view.shape for view in seen}) > 1:
        sizes = ", ".join(f"{view.shape[-2]}x{view.shape[-1]}" for view in seen)
        raise UserError(f"dsf: the augmentations give views of different sizes ({sizes}); give those of one size")
    return torch.cat(seen, 1)


def _steps(given: str | View, side: int) -> list[View]:
    """The views of one augmentation, in order: "crop+flip" is a crop, then a flip."""
    if not isinstance(given, str):
        return [given]
    names = given.split("+")
    for name in names:
        check_choice("augmentation", name, registry.names("view"))
    return [usual_view(name, side) for name in names]


def check_count(option: str, value: int | None, what: str) -> None:
    """Raise UserError for what is no whole number from 1 on, or None."""
    if value is not None and (not isinstance(value, int) or value < 1):
        raise UserError(f"dsf: {option}={shown(value)}; type the number of {what}, 1 or more")


def check_values(images: Tensor) -> None:
    """Raise UserError for images of whole numbers or far beyond [0, 1]. What is not finite, the loop or model tells."""
    if not images.is_floating_point():
        raise UserError(f"dsf: images of {images.dtype}; give floats in [0, 1], such as x / 255")
    if not is_unseen(images):
        low, high = (float(end) for end in images.detach().aminmax())
        if low < -FAR or high > 1 + FAR:
            says = f"holds numbers from {low:g} to {high:g}; pictures are in [0, 1], such as x / 255"
            raise UserError(f"dsf: images {says}")


def check_choice(option: str, value: Any, allowed: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise UserError if an option's value is not allowed."""
    if not isinstance(value, str) or value not in allowed:
        near = get_close_matches(str(value), list(allowed), n=1, cutoff=0.3)
        meant = f'did you mean "{near[0]}"? ' if near else ""
        raise UserError(f"dsf: {option}={shown(value)} is not known; {meant}type one of {', '.join(allowed)}")
