"""Which model gives which gradient: condition models (which class?), score models (is it real?), and their priors.

    x <- x + score(x) + grad log p(y | x)                                                       (DSF, eq. 13)

The two terms may come from different models, and from several of each, of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.models.class_names import resolve
from bothways.models.loader import load_model
from bothways.synthesis.objectives.base import Priors, WeightedSum
from bothways.tasks.generate.config import DrawingConfig
from bothways.types import UserError

Address = str | Path | nn.Module | Adapter


@dataclass(frozen=True)
class Roles:
    """condition: those whose class or likeness is the target, none without one. score: those that say what is real."""

    condition: tuple[Adapter, ...]
    score: tuple[Adapter, ...]
    priors: Priors

    @property
    def main(self) -> Adapter:
        """Whose size the pictures have, and whose classes are counted."""
        return (self.condition or self.score)[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Of every model that gives a gradient."""
        return tuple(dict.fromkeys(model.name for model in (*self.condition, *self.score)))


def find_models(
    config: DrawingConfig, objective: WeightedSum, anything: bool
) -> tuple[tuple[Adapter, ...], tuple[Adapter, ...]]:
    """(condition models, score models), each loaded once. ``model`` takes whichever role is not given to others.

    anything: whether there is a class, words, a layer or a likeness as target, which is what condition models are for.
    Raises UserError where a role is left without a model, or a model without a role.
    """
    model, spec, weights = config.model, config.spec, config.weights
    score, condition = config.score or (), config.condition or ()
    if condition and not anything:
        raise UserError("--condition says of which class a picture is; type --class NAME too, or leave it out")
    others = bool(score) and (bool(condition) or not anything)
    if model is None and not others:
        raise UserError("no model was given; type MODEL, such as bundled:cifar10-resnet, or --score and --condition")
    if model is not None and others:
        raise UserError(f"model {str(model)!r} has no part, since every role is given to others; leave it out")
    if model is None and weights is not None:
        raise UserError("--weights are of MODEL, and none was given; type MODEL, or leave --weights out")
    if score and not objective.of_role("score"):
        raise UserError(
            f"--score says what is real, and recipe {config.recipe!r} has no term for it; type --recipe dsf"
        )
    loaded: dict[str | nn.Module, Adapter] = {}

    def load(address: Address) -> Adapter:
        if isinstance(address, Adapter):
            return address
        key = _key(address)
        if key not in loaded:
            own = model is not None and key == _key(model)
            loaded[key] = load_model(
                address,
                spec if own else None,
                weights=weights if own else None,
                device=config.models.device,
                dtype=config.models.dtype,
            )
        return loaded[key]

    default = () if model is None else (model,)
    says = () if not anything else tuple(load(address) for address in condition or default)
    return says, tuple(load(address) for address in score or default)


def _key(address: Address) -> str | nn.Module:
    """By which two addresses are of one model: two modules may look alike."""
    return address if isinstance(address, nn.Module) else str(address)


def find_labels(models: Sequence[Adapter], classes: Sequence[str | int]) -> list[int]:
    """The classes asked for as numbers of the first model; each of the others must know them by name."""
    found = find_classes(models[0], classes)
    for other in models[1:]:
        find_classes(other, [models[0].spec.class_name(label) for label in found])
    return found


def labels_of(other: Adapter, main: Adapter, labels: Tensor) -> Tensor:
    """Numbers of main's classes -> numbers of the other model's classes of the same names."""
    if other is main:
        return labels
    names = {label: main.spec.class_name(label) for label in labels.unique().tolist()}
    own = {label: find_classes(other, [name])[0] for label, name in names.items()}
    return labels.clone().apply_(own.__getitem__)


def find_classes(model: Adapter, classes: Sequence[str | int]) -> list[int]:
    """Names or numbers -> numbers; raises UserError with the nearest names.

    Of a class named "tench, Tinca tinca", as ImageNet's are, one of its words will do that no other has.
    """
    if not model.spec.count:
        raise UserError(f"model {model.name!r} has no classes in its spec; state ModelSpec(classes=...)")
    if not classes:
        raise UserError(f"no class was asked for; type --class NAME_OR_NUMBER, such as {model.spec.class_name(0)}")
    names = [model.spec.class_name(label) for label in range(model.spec.count)]
    try:
        found = [resolve(names, given) for given in classes]
    except UserError as error:
        raise UserError(f"model {model.name!r} has {error}") from error
    return list(dict.fromkeys(found))
