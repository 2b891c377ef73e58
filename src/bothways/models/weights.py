"""Weights from a safetensors file into a module; a pickle is refused, since reading one can run code."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways.budget import amount
from bothways.faults import check_kinds
from bothways.models.calls import check_shaped
from bothways.numerics.modules import COMPILED
from bothways.reading import is_there
from bothways.types import RunError, UserError


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. what: the noun in error messages.

    Raises UserError for any other file, RunError where no memory is left.
    """
    try:
        return load_file(path)
    except MemoryError as error:
        size = amount(Path(path).stat().st_size)
        raise RunError(
            f"{what} {str(path)!r}: no memory is left for its {size}; give those of a smaller model"
        ) from error
    except (SafetensorError, ValueError, OSError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what} {str(path)!r} cannot be read as safetensors: {said}") from error


def load_weights(module: nn.Module, path: str | Path, part: str = "", *, say: bool = False) -> None:
    """Load a safetensors file into a module, in the module's own precision.

    Raises UserError, with the name of the tensor, where it does not fit, for values that are not finite, and for a kind
    of numbers that is none of weights, such as whole numbers or 8-bit floats. say: warn of other precisions.
    part: what the names of the module's own weights begin with, in a file that holds more. Where all names in the file,
    or in the module, stand behind one prefix that the other side lacks, such as "module." or "ema_model.module.", it is
    left out, and a warning says so.
    """
    check_kinds("weights", path=(path, (str, Path)))
    check_shaped(module, "the model")
    path = Path(path)
    if not is_there(path):
        raise UserError(f"weights {str(path)!r} do not exist; type the path of a .safetensors file")
    try:
        whole = read_tensors(path, "weights")
    except UserError as error:
        raise UserError(
            f"weights {str(path)!r} are not a safetensors file, and a pickle is never read, since it can run code; "
            "convert it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'model.safetensors')"
        ) from error
    found = {key.removeprefix(part): value for key, value in whole.items() if key.startswith(part)}
    own = module.state_dict()
    names = {_written(key): key for key in own}
    found = {_written(key): value for key, value in found.items()}
    wanted = {name: own[key] for name, key in names.items()}
    if misfit(found, wanted) and (stripped := _behind_prefix(found, wanted)) is not None:
        found, said = stripped
        warnings.warn(f"weights {str(path)!r}: {said}", stacklevel=3)
    if said := misfit(found, wanted):
        sets = sets_of(found, wanted)
        hint = f"keep in it only those behind {' or '.join(sets)}" if sets else "give the file made for it"
        raise UserError(f"weights {str(path)!r} do not fit the model ({said}); {hint}")
    learned = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for name, value in found.items():
        if said := unfit_values(value, wanted[name], names[name] in learned):
            raise UserError(f"weights {str(path)!r}: {names[name]} {said}")
    if say and (said := _other_precision(found, wanted)):
        warnings.warn(f"weights {str(path)!r}: {said}", stacklevel=3)
    module.load_state_dict({names[name]: value for name, value in found.items()}, strict=False)


def unfit_values(value: Tensor, own: Tensor, learned: bool) -> str:
    """Why a tensor of a file cannot take the place of one of the module's own; "" where it can.

    learned: whether it is a parameter; a buffer may be infinite where the module's own is, as a mask is.
    """
    if own.is_floating_point() and not (value.is_floating_point() and value.element_size() > 1):
        scale = ", whose scale is not in the file" if value.is_floating_point() else ""
        return f"is of {_kind(value)}{scale}; the model needs {_kind(own)}, so give a file of floats of 16 bits or more"
    cast = value.to(own.dtype)
    if not own.is_floating_point():
        same = torch.equal(cast.to(value.dtype), value)
        return "" if same else f"holds {_kind(value)} that are no {_kind(own)}; give the file made for the model"
    bad = ~torch.isfinite(cast)
    if not learned and not own.is_meta:
        bad &= cast != own.to(cast.device)
    if not bad.any():
        return ""
    first = float(value.flatten()[bad.flatten().nonzero()[0, 0]])
    over = f", beyond {_kind(own)}" if math.isfinite(first) else ""
    count = f"{int(bad.sum())} of {value.numel()} values that are not finite"
    return f"holds {count}, the first {first:g}{over}; give other weights"


def _other_precision(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """How many tensors of a file are of another precision than the module's, in a line; "" for none."""
    others = Counter((_kind(v), _kind(wanted[k])) for k, v in found.items() if v.dtype != wanted[k].dtype)
    return "; ".join(
        f"{n} of {len(found)} tensors are of {one} and become {other}" for (one, other), n in others.items()
    )


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _written(key: str) -> str:
    """The name of a weight in the module as it was written: what was compiled has a name more."""
    return ".".join(word for word in key.split(".") if word != COMPILED)


def misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What does not fit, in a line; "" where all does. Counters of batches may be missing."""
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in wanted]
    shapes = [
        f"{k} {tuple(found[k].shape)} for {tuple(wanted[k].shape)}"
        for k in wanted
        if k in found and found[k].shape != wanted[k].shape
    ]
    sides = {"missing in the file": missing, "not in the model": extra, "of another shape": shapes}
    return "; ".join(f"{what}: {', '.join(keys[:3])}" for what, keys in sides.items() if keys)


def _behind_prefix(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str] | None:
    """The file's weights by the module's names, and what was done to them; None where no one prefix makes them fit."""
    for prefix in prefixes(found, wanted):
        if all(key.startswith(prefix) for key in found):
            stripped = {key.removeprefix(prefix): value for key, value in found.items()}
            if not misfit(stripped, wanted):
                return stripped, f"the names in the file begin with {prefix!r}, which is left out"
    for prefix in prefixes(wanted, found):
        longer = {prefix + key: value for key, value in found.items()}
        if not misfit(longer, wanted):
            return longer, f"the names in the model begin with {prefix!r}, which is put before those in the file"
    return None


def prefixes(longer: Iterable[str], shorter: Iterable[str]) -> list[str]:
    """What stands before a name of the one side in the names of the other, in whole words."""
    pivot = next((key for key in shorter if not key.endswith("num_batches_tracked")), None)
    if pivot is None:
        return []
    return [key[: -len(pivot)] for key in longer if key != pivot and key.endswith(f".{pivot}")]


def sets_of(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The prefixes behind each of which a file holds all of the module's weights."""
    whole = []
    for prefix in prefixes(found, wanted):
        stripped = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
        if not misfit(stripped, wanted):
            whole.append(repr(prefix))
    return sorted(whole)
