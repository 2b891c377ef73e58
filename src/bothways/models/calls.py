"""What a module of someone else's lacks, and what its errors come from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from bothways.brief import shown
from bothways.faults import place_of, told
from bothways.numerics.modules import is_finite
from bothways.types import ModelSpec, RunError, UserError

ABOUT_SIZE = re.compile(
    r"siz|shape|dimension|match|view|channel|width|height|multiple|mat1|broadcast|pad", re.IGNORECASE
)
APART = 0.01  # of the largest number: two calls on the same pictures may differ by less, in half precision
SUM = 1e-3  # how far from 1 a sum of probabilities may be, in half precision
ABOUT_KIND = re.compile(r"dtype|scalar type|\b(float|double|half|bfloat16|long|int|c10)\b", re.IGNORECASE)


def check_held(module: nn.Module, what: str) -> None:
    """Raise UserError for a module whose parameters hold no numbers, or some that are not finite.

    what: "model 'NAME'", for the message.
    """
    check_shaped(module, what)
    empty = [name for name, value in module.state_dict().items() if isinstance(value, Tensor) and value.is_meta]
    if empty:
        raise UserError(
            f'{what} holds no numbers: {len(empty)} of its tensors are on the device "meta", the first {empty[0]}; '
            "build it without that device, or load its weights with assign=True"
        )
    for name, value in module.named_parameters():
        if not is_finite(value):
            raise UserError(f"{what}: its parameter {name} holds values that are not finite; give other weights")


def check_shaped(module: nn.Module, what: str) -> None:
    """Raise UserError for a module of which a parameter has no shape before it is first called."""
    lazy = [name for name, value in module.named_parameters() if isinstance(value, UninitializedParameter)]
    if lazy:
        raise UserError(
            f"{what} holds no numbers yet: its parameter {lazy[0]} takes its shape from a first picture; call the "
            "module once where it is built, before its weights are loaded"
        )


def encoded(text: Callable[[list[str]], Tensor], prompts: list[str], width: int, what: str) -> Tensor:
    """The rows (P,D) that a text encoder gives for P prompts. width: D of the outputs. what: "model 'NAME'".

    Raises UserError for an encoder that fails, or whose rows cannot be compared with the outputs.
    """
    try:
        rows = text(prompts)
    except (RunError, UserError):
        raise
    except (Exception, SystemExit) as error:
        said = told(error)
        raise UserError(f"{what}: its text fails on {prompts[0]!r} ({said}); mend the function that encodes") from error
    if not isinstance(rows, Tensor) or rows.shape != (len(prompts), width):
        given = f"{type(rows).__name__}{f' {tuple(rows.shape)}' if isinstance(rows, Tensor) else ''}"
        raise UserError(
            f"{what}: its text gives {given} for {len(prompts)} prompts; give a tensor ({len(prompts)}, {width}), a "
            "row a prompt in the space of the outputs"
        )
    if not bool(rows.isfinite().all() and (rows != 0).any(1).all()):
        raise UserError(
            f"{what}: its text gives rows of zeros or of no numbers for {prompts[0]!r}; mend the function that encodes"
        )
    return rows


def first_line(error: Exception) -> str:
    """What an exception says, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def reason(error: Exception) -> str:
    """Why a module fails, in a line: what the exception says, and of a user's file its kind and place too."""
    plain = isinstance(error, RuntimeError | ValueError | TypeError | AssertionError) and not place_of(error)
    return first_line(error) if plain else told(error)


def remedy(error: Exception, module: nn.Module, spec: ModelSpec, takes: str) -> str:
    """What to type for an error of a module on pictures as its spec has them. takes: its arguments, for the message."""
    said = first_line(error)
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in module.parameters() if p.is_floating_point()})
    places = sorted({str(p.device) for p in module.parameters()})
    if len(places) > 1:
        return f"its parameters are on {' and '.join(places)}; put them on one device, with module.to(DEVICE)"
    if len(kinds) > 1 and ABOUT_KIND.search(said):
        return f"its parameters are {' and '.join(kinds)}; give them one dtype, with module.float()"
    if isinstance(error, TypeError) and "argument" in said:
        return f"give a module whose forward takes {takes}"
    if ABOUT_KIND.search(said) and not ABOUT_SIZE.search(said):
        return (
            f"its parameters are {' and '.join(kinds) or 'none'}; give module.float(), or mend the dtype in its forward"
        )
    if said == "AssertionError" or ABOUT_SIZE.search(said):  # one that says nothing is most often of the size
        seen, other = (1, '"RGB"') if spec.channel_order == "grey" else (3, '"grey" for one channel')
        return f"give a module that takes (B,{seen},H,W), and mend ModelSpec.size or channel_order ({other})"
    return "mend the module's forward"


def refusal(error: Exception, module: nn.Module, spec: ModelSpec, name: str, image: Tensor) -> UserError:
    """What to tell of an error of a model on pictures (B,3,H,W)."""
    said, (height, width) = reason(error), image.shape[-2:]
    if (height, width) != (spec.height, spec.width):
        return UserError(
            f"model {name!r} cannot take {height}x{width} pictures ({said}); "
            f"it is stated for {spec.height}x{spec.width}: leave --size out, or type --size {spec.height}"
        )
    kind = "grey pictures (1 channel)" if spec.channel_order == "grey" else "RGB pictures (3 channels)"
    advice = remedy(error, module, spec, "the pictures alone")
    return UserError(f"model {name!r} fails on {kind} of {height}x{width}, the size in its spec: {said}; {advice}")


def check_facts(spec: ModelSpec, name: str) -> None:
    """Raise UserError for a fact that only a flow has."""
    flows = {
        "time_scale": (spec.time_scale, None),
        "time_first": (spec.time_first, False),
        "levels": (spec.levels, 256),
    }
    unused = [fact for fact, (stated, left_out) in flows.items() if stated != left_out]
    if unused:
        raise UserError(
            f"model {name!r}: its spec states {unused[0]}, which only a flow has; leave it out, or state path= and "
            "type bothways sample, walk or diagnose (in Python load_flow)"
        )


def warn_outputs(outputs: Tensor, again: Tensor, classes: int, name: str) -> None:
    """Warn of outputs (B,K) that are probabilities already, and of others in a second call on the same pictures."""
    if 1 < classes == outputs.shape[1] and bool((outputs >= 0).all() and ((outputs.sum(1) - 1).abs() < SUM).all()):
        warnings.warn(
            f"model {name!r}: its outputs are from 0 to 1 and sum to 1, as those of a softmax; leave that out, since "
            "outputs are taken as logits",
            stacklevel=2,
        )
    warn_random(outputs, again, f"model {name!r}")


def warn_random(first: Tensor, again: Tensor, what: str) -> None:
    """Warn where a second call on the same pictures gave other numbers. what: "model 'NAME'", for the message."""
    if bool((first - again).abs().max() > APART * first.abs().max()):
        warnings.warn(
            f"{what}: two calls on the same picture give different numbers, so that no run can be repeated; something "
            "in it is random in eval mode too, such as F.dropout without training=self.training",
            stacklevel=2,
        )


def moments_of(spec: ModelSpec, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a spec, (1,3,1,1) each, of the precision of pictures and on their device."""
    mean, std = (torch.tensor(v, dtype=like.dtype, device=like.device).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    return mean, std


def check_dtype(dtype: Any, known: Iterable[str]) -> None:
    """Raise UserError for a precision that is not one of the known."""
    if not isinstance(dtype, str) or dtype not in known:
        raise UserError(f"dtype {shown(dtype)} is not known; type one of {', '.join(known)}")
