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
from torch import Tensor

from bothways import registry
from bothways.numerics.draws import Draws
from bothways.synthesis.objectives.terms import vectors
from bothways.synthesis.views import View, usual_view
from bothways.types import TrainedModel, UserError

Named = dict[str, Tensor]
SMALL = 1e-12  # added to ||g||^2: a mirror-symmetric picture has g = 0, where the root is not differentiable


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


DISTANCES = ("norm", "log", "angle")


@dataclass(frozen=True, repr=False)  # torch.func takes the repr of a function, which would format all tensors
class Loss:
    """Surrogate loss l of n pictures and their views, as a function of ``theta``; other parameters are ``fixed``."""

    model: TrainedModel
    layer: str
    measure: Callable[[Tensor, Tensor], Tensor]
    distance: str
    theta: Named
    fixed: Named

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

        with theta' = theta / ||theta||, and 1e-12 added to ||g||^2. For the angle v = 0 if ||g||^2 is below that.
        The scale is separate since v has the size of all parameters, for every picture.
        """
        g = {name: value.detach() for name, value in gradient.items()}
        norm = global_norm(g)
        squared = norm.square() + SMALL
        if self.distance != "angle":
            return g, 1 / squared.sqrt() if self.distance == "norm" else 1 / squared, norm
        weight = 1 / global_norm(self.theta).clamp_min(SMALL)
        back = weight * inner(g, self.theta) / squared
        return (
            {name: weight * self.theta[name] - back * g[name] for name in g},
            (norm > SMALL**0.5) / squared.sqrt(),
            norm,
        )


def global_norm(parts: Named) -> Tensor:
    """Global L2 norm over all tensors."""
    return torch.stack([torch.linalg.vector_norm(part) for part in parts.values()]).norm()


def inner(a: Named, b: Named) -> Tensor:
    """Global inner product <a, b> over all tensors."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def loss_of(model: TrainedModel, surrogate: str, distance: str, pattern: str | None) -> Loss:
    """Build the surrogate loss from its names. Raises UserError if the model lacks parameters or a feature layer."""
    if not isinstance(model, TrainedModel):
        raise UserError(
            f"dsf needs the model's parameters, and {type(model).__name__} has no features_with; "
            "wrap the module: bothways.load_model(module, spec)"
        )
    layer = model.spec.feature_layer if surrogate == "features" else "outputs"
    if layer is None:
        raise UserError(
            f'dsf: model {model.name!r} has no feature layer; name its last block in ModelSpec(feature_layer="..."), '
            'or type surrogate="logits"'
        )
    fixed = dict(model.parameters())
    return Loss(model, layer, SURROGATES[surrogate], distance, matching_parameters(fixed, pattern, model.name), fixed)


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


def views(image: Tensor, augmentation: str | View | Sequence[str | View], draws: Draws, t: float) -> Tensor:
    """Views (N,K,3,h,w): each picture of (N,3,H,W) under each augmentation, differentiable in the picture.

    Raises UserError for an unknown name, and for views of different sizes.
    """
    some = augmentation if isinstance(augmentation, Sequence) and not isinstance(augmentation, str) else [augmentation]
    if not some:
        raise UserError('dsf: augmentation is empty; type augmentation="flip"')
    for each in some:
        if isinstance(each, str):
            check_choice("augmentation", each, registry.names("view"))
    side = min(image.shape[-2:])
    made = [usual_view(each, side) if isinstance(each, str) else each for each in some]
    seen = [augment(image[:, None], draws, t)[:, 0] for augment in made]
    if len({view.shape for view in seen}) > 1:
        sizes = ", ".join(f"{view.shape[-2]}x{view.shape[-1]}" for view in seen)
        raise UserError(f"dsf: the augmentations give views of different sizes ({sizes}); give those of one size")
    return torch.stack(seen, 1)


def check_choice(option: str, value: Any, allowed: Sequence[str] | Mapping[str, Any]) -> None:
    """Raise UserError if an option's value is not allowed."""
    if value not in allowed:
        near = get_close_matches(str(value), list(allowed), n=1, cutoff=0.3)
        meant = f'did you mean "{near[0]}"? ' if near else ""
        raise UserError(f"dsf: {option}={value!r} is not known; {meant}type one of {', '.join(allowed)}")
