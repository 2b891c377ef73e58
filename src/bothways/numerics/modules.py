"""How a module or a callable of someone else's is called: so that nothing of its caller's, or of its own, changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from bothways.types import RunError, UserError, VectorField

COMPILED = "_orig_mod"  # of torch.compile, the name of the module inside


def module_of(v: Any) -> nn.Module | None:
    """The module that a callable is: itself, what it is a method of, or the first within a ``functools.partial``."""
    if isinstance(v, partial):
        found = (module_of(part) for part in (v.func, *v.args))
        return next((module for module in found if module is not None), None)
    owner = getattr(v, "__self__", v)
    return owner if isinstance(owner, nn.Module) else None


def untouched(v: VectorField) -> VectorField:
    """v as a field that leaves x and t as they are, and whose answer stays as it is when v is called again.

    A network may work in place (``LeakyReLU(inplace=True)``, ``x *= w``), and may answer with a buffer of its own.
    """
    return v if isinstance(v, partial) and v.func is _of_copies else partial(_of_copies, v)


def _of_copies(v: VectorField, x: Tensor, t: Tensor) -> Tensor:
    found = v(x.clone(), t.clone())
    return found.clone() if isinstance(found, Tensor) and not found.requires_grad else found


@contextmanager
def evaluating(module: object) -> Iterator[None]:
    """Every part of a module in eval mode, then each in its own again; what is no module is left alone.

    In train mode BatchNorm would couple the pictures of a batch and move its statistics, and dropout would draw. A
    frozen part of TorchScript has no mode.
    """
    parts = module.modules() if isinstance(module, nn.Module) else ()
    training = [part for part in parts if getattr(part, "training", False)]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


def own_dtype(module: nn.Module) -> torch.dtype | None:
    """The precision of a module's parameters, by the first that has one; None where none has."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def parts_of(module: nn.Module) -> dict[str, nn.Module]:
    """{dotted name: module} of all modules; one that was compiled goes by the name of the one inside it.

    Those of TorchScript, which take no hooks, are left out.
    """
    named = {}
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        named[".".join(word for word in name.split(".") if word != COMPILED)] = part  # the one inside comes later
    return named


class Scripted(nn.Module):
    """A module of TorchScript inside one that takes hooks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.script = module

    def forward(self, x: Tensor) -> Tensor:
        return self.script(x)


def hookable(module: nn.Module) -> nn.Module:
    """The module that ``torch.compile`` was given, one of TorchScript as ``Scripted``, or the module itself."""
    return Scripted(module) if isinstance(module, torch.jit.ScriptModule) else getattr(module, COMPILED, module)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of ``nn.DataParallel`` or ``DistributedDataParallel``, whose layers can be read."""
    inside: nn.Module = getattr(module, "module", module)
    return inside if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel) else module


def class_of(module: nn.Module) -> str:
    """The name of a module's class; of a compiled one, of the module that was compiled."""
    return type(getattr(module, COMPILED, module)).__name__


def all_scripted(module: nn.Module, names: Iterable[str]) -> bool:
    """Whether a module has parts of TorchScript, and every one of these of its parameters is in one."""
    scripted = [name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)]
    inside = tuple(f"{name}." if name else "" for name in scripted)
    return bool(scripted) and all(name.startswith(inside) for name in names)


def set_eval(module: nn.Module) -> None:
    """Put a module in eval mode; one of ``torch.export`` has the mode in which it was exported, and raises."""
    with suppress(NotImplementedError):
        module.eval()


def uncompiled(module: nn.Module) -> Any:
    """A context in which what was compiled of a module runs as it was written: its hooks are called."""
    return torch.compiler.set_stance("force_eager") if is_compiled(module) else nullcontext()


def is_compiled(module: nn.Module) -> bool:
    """Whether any part of a module was compiled."""
    parts = module.modules()
    return any(hasattr(part, COMPILED) or getattr(part, "_compiled_call_impl", None) is not None for part in parts)


def compile_module(module: nn.Module, backend: str = "inductor") -> None:
    """Compile a module in place, by torch.compile. Raises UserError where nothing can be compiled here."""
    from torch._functorch import config as functorch_config  # loads torch's compiler

    try:
        torch.compile(torch.neg, backend=backend)(torch.zeros(2))
    except Exception as error:  # whatever a backend raises that finds no compiler
        raise UserError(f"compile: torch.compile fails here ({first_cause(error)}); leave --compile out") from error
    # the exact gradient of a walk goes through the graph of a step more than once, for which its buffers must stay
    functorch_config.donated_buffer = False
    module.compile(backend=backend)


def first_cause(error: BaseException) -> str:
    """The first line of the error that was raised first."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return (str(error).splitlines() or [type(error).__name__])[0]


def torchvision_misfit() -> str:
    """An error line if torchvision is installed but cannot be imported, as with another torch; else ""."""
    if find_spec("torchvision") is None:
        return ""
    try:
        import_module("torchvision")
    except Exception as error:
        return (
            f"torchvision {metadata.version('torchvision')} does not fit torch {torch.__version__} "
            f"({first_cause(error).rstrip('.')}); "
            "type pip install --force-reinstall torch torchvision, both of one release and from one index"
        )
    return ""


def is_unseen(values: Tensor) -> bool:
    """Whether no value can be looked at: inside of ``torch.func``, and on "meta"."""
    return values.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(values)


def is_finite(values: Tensor) -> bool:
    """Whether all values are; taken for so where they are unseen."""
    return is_unseen(values) or bool(torch.isfinite(values).all())


def check_finite(values: Tensor, what: str, remedy: str = "in half precision, type --dtype float32") -> None:
    """Raise RunError for values that are not finite. what: such as "model 'NAME' gives outputs"."""
    if not is_finite(values):
        raise RunError(f"{what} that are not finite; {remedy}")
