"""The roles of models: condition models give the gradient of the target, score models that of the image prior.

    x <- x + score(x) + grad log p(y | x)                                                       (DSF, eq. 13)

The two terms may come from different models, and from several of each, of any size.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.models.class_names import matches, resolve_all
from bothways.models.loader import load_model, told_apart
from bothways.numerics.draws import generator
from bothways.numerics.folding import folded
from bothways.numerics.modules import is_compiled
from bothways.synthesis.objectives.base import Priors, WeightedSum
from bothways.synthesis.resized import Quick
from bothways.tasks.generate.config import DrawingConfig, ModelsConfig
from bothways.types import TrainedModel, UserError

PROBED = 2  # pictures of noise by which a folded copy is checked
Address = str | Path | nn.Module | Adapter


@dataclass(frozen=True)
class Roles:
    """The models by role. condition: for the target, empty without one. score: for the image prior."""

    condition: tuple[Adapter, ...]
    score: tuple[Adapter, ...]
    priors: Priors

    @property
    def main(self) -> Adapter:
        """The main model, which sets the size and classes of the pictures."""
        return (self.condition or self.score)[0]

    @cached_property
    def quick(self) -> dict[int, TrainedModel]:
        """{id: what the steps of a drawing call in place of a model}."""
        return {id(model): quick(model) for model in self.models}

    @property
    def models(self) -> tuple[Adapter, ...]:
        """All models that give a gradient, each once."""
        return tuple({id(model): model for model in (*self.condition, *self.score)}.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(model.name for model in self.models))


def find_models(
    config: DrawingConfig, objective: WeightedSum, anything: bool
) -> tuple[tuple[Adapter, ...], tuple[Adapter, ...]]:
    """Load (condition models, score models), each model once. ``model`` takes the roles not given to others.

    Without it the condition models are the score models too, where there are no others.

    anything: whether there is a target for condition models: a class, prompt, layer or reference picture.
    Raises UserError for a role without a model, or a model without a role.
    """
    model, spec, weights = config.model, config.spec, config.weights
    score, condition = config.score or (), config.condition or ()
    if condition and not anything:
        raise UserError("--condition needs a target; type --class NAME too, or leave it out")
    others = bool(score) and (bool(condition) or not anything)
    if model is None and not (others or condition):
        raise UserError("no model was given; type MODEL, such as bundled:cifar10-resnet, or --condition with some")
    if model is not None and others:
        raise UserError(f"model {str(model)!r} has no role, since --score and --condition name others; leave it out")
    if model is None and weights is not None:
        raise UserError("--weights needs MODEL, and none was given; type MODEL, or leave --weights out")
    if model is None and spec is not None:
        role = "condition" if condition else "score"
        raise UserError(f"spec= is of MODEL, and none was given; give {role}=load_model(module, spec)")
    if score and not objective.of_role("score"):
        raise UserError(f"--score needs a prior term, and recipe {config.recipe!r} has none; type --recipe dsf")
    loaded: dict[str | nn.Module | Adapter, Adapter] = {}

    def load(address: Address) -> Adapter:
        if isinstance(address, Adapter):
            _check_loaded(address, config.models)
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

    default = condition if model is None else (model,)
    says = () if not anything else tuple(load(address) for address in condition or default)
    real = tuple(load(address) for address in score or default)
    every = list({id(model): model for model in (*says, *real)}.values())
    named = {id(model): own for model, own in zip(every, told_apart(every), strict=True)}
    return tuple(named[id(model)] for model in says), tuple(named[id(model)] for model in real)


def _check_loaded(model: Adapter, given: ModelsConfig) -> None:
    """Raise UserError where a model that is loaded already is to have another precision or device."""
    usual, own = ModelsConfig(), {"dtype": model.dtype, "device": torch.device(model.device).type}
    for name, value in own.items():
        wanted = getattr(given, name)
        if wanted != getattr(usual, name) and str(wanted).partition(":")[0] != value:
            raise UserError(f"model {model.name!r} is loaded already, with {name} {value}; give {name}= to load_model")


def _key(address: Address) -> str | nn.Module | Adapter:
    """The key that identifies a model, so that each is loaded once."""
    return address if isinstance(address, nn.Module | Adapter) else str(address)


def find_labels(models: Sequence[Adapter], classes: Sequence[str | int]) -> list[int]:
    """The numbers of the classes in the first model; all other models must have classes of the same names.

    Where those of the first have none, as many classes, which are taken to be the same in order.
    """
    main, found = models[0], find_classes(models[0], classes)
    _tell_of_twins(main, classes)
    for other in models[1:]:
        if isinstance(main.spec.classes, int) and other.spec.count != main.spec.count:
            raise UserError(
                f"model {main.name!r} has {main.spec.count} classes without names and {other.name!r} has "
                f"{other.spec.count}, so which are the same is not known; state the names: ModelSpec(classes=[...])"
            )
        if isinstance(main.spec.classes, int) or other.spec.classes == main.spec.classes:
            continue
        find_classes(other, [main.spec.class_name(label) for label in found])
    return found


def _tell_of_twins(model: Adapter, classes: Sequence[str | int]) -> None:
    """Warn of a name that several classes have, of which the last is taken."""
    names = [model.spec.class_name(label) for label in range(model.spec.count)]
    for given in classes:
        if isinstance(given, str) and len(places := matches(names, given)) > 1:
            numbers = " and ".join(map(str, places))
            warnings.warn(
                f"{len(places)} classes of model {model.name!r} are called {given!r}, {numbers}: {places[-1]} is "
                "drawn; type the number of another",
                stacklevel=4,
            )


def labels_of(other: Adapter, main: Adapter, labels: Tensor) -> Tensor:
    """Convert class numbers of ``main`` to those of the same names in ``other``; without names they are the same."""
    unnamed = isinstance(main.spec.classes, int) and other.spec.count == main.spec.count
    if unnamed or other.spec.classes == main.spec.classes:  # also of two classes with one name, as ImageNet's "crane"
        return labels
    names = {label: main.spec.class_name(label) for label in labels.unique().tolist()}
    own = {label: find_classes(other, [name])[0] for label, name in names.items()}
    return labels.clone().apply_(own.__getitem__)


def find_classes(model: Adapter, classes: Sequence[str | int]) -> list[int]:
    """Convert class names or numbers to numbers. Raises UserError with the nearest names.

    For ImageNet names such as "tench, Tinca tinca", one of the comma-separated parts suffices if it is unique.
    """
    if not model.spec.count:
        raise UserError(f"model {model.name!r} has no classes in its spec; state ModelSpec(classes=...)")
    if not classes:
        raise UserError(f"no class was given; type --class NAME_OR_NUMBER, such as {model.spec.class_name(0)}")
    names = [model.spec.class_name(label) for label in range(model.spec.count)]
    try:
        return resolve_all(names, classes)
    except UserError as error:
        raise UserError(f"model {model.name!r} has {error}") from error


def as_typed(model: Adapter, label: int) -> str:
    """What ``find_classes`` reads as this class: its name, or its number where the name is another's too."""
    name = model.spec.class_name(label)
    return name if find_classes(model, [name]) == [label] else str(label)


def quick(model: Adapter) -> TrainedModel:
    """The model, or one of the same function to rounding whose batch normalisations are folded, where that can be.

    A model that was compiled stays as it is, and so does one whose precision is below float32, where rounding could not
    be told from a mistake.
    """
    whole = all(value.dtype in (torch.float32, torch.float64) for value in model.module.parameters())
    if model.compiled is not None or is_compiled(model.module) or not whole:
        return model
    size = (PROBED, 3, model.spec.height, model.spec.width)
    noise = torch.rand(size, generator=generator(0, purpose="folding"))
    found = folded(model.module, model.module_input(noise.to(model.device)))
    if found is None:
        return model
    made = copy.copy(model)
    made.module = found.module
    return Quick(model, made, found.changed)
