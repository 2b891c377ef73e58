"""Adapter of an nn.Module and its ModelSpec to a VisionModel; all preprocessing is applied here.

f(image) = module((image[channel order] - mean) / std),   image (B,3,H,W) RGB in [0,1]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bothways.models.libraries.hub import Text
from bothways.types import ModelSpec, RunError, UserError

SPEC_LINES = (
    "state its facts: bothways.ModelSpec(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), classes=1000)"
)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}


class Adapter:
    """A module with its preprocessing as a VisionModel; outputs and features are differentiable in the image.

    The module is put in eval mode; its parameters are unchanged. Inputs are in channels-last layout if it accepts that.
    dtype: "float32", or "bf16" / "float16" for autocast; outputs are float32 (float64 stays float64).
    text: prompt encoder, P prompts -> (P,D), or None.
    """

    def __init__(
        self,
        module: nn.Module,
        spec: ModelSpec,
        *,
        name: str = "model",
        device: str = "cpu",
        dtype: str = "float32",
        text: Text | None = None,
    ) -> None:
        if not isinstance(spec, ModelSpec):
            raise UserError(f"model {name!r} has no ModelSpec; {SPEC_LINES}")
        if dtype not in DTYPES:
            raise UserError(f"dtype {dtype!r} is not known; type one of {', '.join(DTYPES)}")
        self.spec, self.name, self.device, self.dtype = spec, name, device, dtype
        self._text = text
        self.module = module.to(device).eval()
        self.channels_last = {name for name, part in self.module.named_modules() if has_channels_last(part)}
        # 1.8 times as fast for small convolutions on a CPU, with the same results up to rounding
        self.layout = torch.channels_last
        try:
            self._check()
        except UserError as error:
            if "view size" not in str(error):
                raise
            self.layout = torch.contiguous_format  # a module that calls view on its maps needs the contiguous layout
            self._check()

    def outputs(self, image: Tensor) -> Tensor:
        """Logits or embedding, (B,3,H,W) in [0,1] -> (B,K)."""
        return self.features(image, ["outputs"])["outputs"]

    def features(self, image: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        """Activations {layer: tensor} of one forward pass; a layer is "NAME", "NAME:input" or "outputs".

        Maps are (B,C,H,W), also at layers that have their channels last; tokens are (B,N,C).
        Raises UserError for an unknown layer, with the nearest names, and for a size that the model cannot take;
        RunError if out of memory.
        """
        return self.features_with({}, image, layers)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings of prompts, (P,D), with rows of unit norm in the space of ``outputs``, without gradient.

        Prompts are truncated to the model's context. Raises UserError for a model without a text encoder.
        """
        if self._text is None:
            raise UserError(f"model {self.name!r} reads no text; type one that does, such as clip:ViT-B/32")
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise UserError(f'model {self.name!r}: no prompt was given; type one, such as "a photo of a frog"')
        with torch.no_grad():
            return F.normalize(self._text(prompts).float(), dim=1).to(self.device)

    def parameters(self) -> dict[str, Tensor]:
        """The module's parameters {name: value}, detached: they share its memory, without gradients."""
        return {name: value.detach() for name, value in self.module.named_parameters()}

    def features_with(
        self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """``features`` with some parameters replaced in this call (functional call), differentiable in them too.

        The module's own parameters are restored after the call and after an error; torch.func may transform it.
        """
        return self._all(self._seen(parameters, image, layers), layers)

    def layers(self) -> list[str]:
        """Dotted names of all modules."""
        return [name for name, _ in self.module.named_modules() if name]

    def batch_norm_statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Running statistics {"NAME:input": (mean (C,), variance (C,))} of every BatchNorm layer with them.

        Frozen BatchNorm, as in the backbones of detectors, is included.
        """
        kept = {name: running_statistics(part) for name, part in self.module.named_modules()}
        return {f"{name}:input": pair for name, pair in kept.items() if pair and f"{name}:input" in self._measurable}

    def statistics_layers(self) -> list[str]:
        """Layers for channel statistics: the inputs of normalisation layers, else the outputs of convolutions.

        Layers that are not used are left out, and those in which an image is split over rows of the batch.
        """
        return list(self._measurable)

    def head(self) -> tuple[str, Tensor] | None:
        """("NAME:input", weight (classes, D)) of the last linear layer or 1x1 convolution with one row per class."""
        return head_of(self.module, self.spec.count)

    def _seen(self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Run one forward pass and record the layers; those without a tensor are missing in the result."""
        seen: dict[str, Tensor] = {}
        with ExitStack() as hooks:
            for layer in layers:
                if layer != "outputs":
                    hooks.enter_context(self._recorded(layer, seen))
            seen["outputs"] = self._forward(image, parameters)
        return seen

    def _all(self, seen: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
        unseen = [layer for layer in layers if layer not in seen]
        if unseen:
            raise UserError(
                f"model {self.name!r}: layer {unseen[0]!r} is not used or returns no tensor; type one inside it"
            )
        return {layer: seen[layer] for layer in layers}

    def _forward(self, image: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        spec = self.spec
        seen = image.flip(1) if spec.channel_order == "BGR" else image
        mean, std = (
            torch.tensor(v, dtype=seen.dtype, device=seen.device).view(1, 3, 1, 1) for v in (spec.mean, spec.std)
        )
        seen = self._laid_out((seen - mean) / std)
        try:
            with torch.autocast(seen.device.type, DTYPES[self.dtype], enabled=self.dtype != "float32"):
                result = functional_call(self.module, dict(parameters), (seen,)) if parameters else self.module(seen)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"model {self.name!r}: no memory is left for {len(image)} views; type fewer --copies"
            ) from error
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            height, width = image.shape[-2:]
            reason, size = (str(error).strip() or type(error).__name__).splitlines()[0], f"{height}x{width}"
            if (height, width) != (spec.height, spec.width):
                raise UserError(
                    f"model {self.name!r} cannot take {size} pictures ({reason}); "
                    f"its spec has {spec.height}x{spec.width}: leave --size out, or type --size {spec.height}"
                ) from error
            raise UserError(
                f"model {self.name!r} fails on RGB pictures (3 channels) of {size}, the size in its spec: {reason}; "
                "give a module that takes (B,3,H,W), and correct ModelSpec.size"
            ) from error
        if not isinstance(result, Tensor) or result.ndim < 2:
            shape = f" of shape {tuple(result.shape)}" if isinstance(result, Tensor) else ""
            raise UserError(
                f"model {self.name!r} returns a {type(result).__name__}{shape}, not a tensor (B,K); "
                "wrap it in a module whose forward returns the logits or the embedding, (B,K)"
            )
        return result.flatten(1) if image.dtype == torch.float64 else result.flatten(1).float()

    def _laid_out(self, seen: Tensor) -> Tensor:
        if self.layout == torch.contiguous_format:
            return seen.contiguous()
        # equals contiguous(memory_format=torch.channels_last), in operations that torch.func.vmap supports
        return seen.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    @contextmanager
    def _recorded(self, layer: str, seen: dict[str, Tensor]) -> Iterator[None]:
        name, _, side = layer.partition(":")
        modules = dict(self.module.named_modules())
        if name not in modules or side not in ("", "input"):
            near = get_close_matches(name, [n for n in modules if n], n=5, cutoff=0.3)
            raise UserError(f"model {self.name!r} has no layer {layer!r}; the nearest are {', '.join(near) or 'none'}")

        def keep(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | None = None) -> None:
            value = inputs[0] if output is None and inputs else output
            if isinstance(value, Tensor):
                # float: statistics in autocast's bfloat16 would be rounded; clone: an in-place activation that
                # follows would overwrite the recorded tensor
                value = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value.clone()
                seen[layer] = value.movedim(-1, 1) if value.ndim == 4 and name in self.channels_last else value

        module = modules[name]
        handle = module.register_forward_pre_hook(keep) if side else module.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def _check(self) -> None:
        """One forward pass at the spec's size, so that a wrong spec is refused early. Raises UserError."""
        double = any(p.dtype == torch.float64 for p in self.module.parameters())
        kind = torch.float64 if double else torch.float32
        probe = torch.full((1, 3, self.spec.height, self.spec.width), 0.5, device=self.device, dtype=kind)
        layers = [self.spec.feature_layer, "outputs"] if self.spec.feature_layer else ["outputs"]
        candidates = normalised_layers(self.module)
        with torch.no_grad():
            seen = self._seen({}, probe, [*layers, *candidates])
        result = self._all(seen, layers)["outputs"]
        self._measurable = [layer for layer in candidates if layer in seen and len(seen[layer]) == 1]
        if self.spec.count and result.shape[1] != self.spec.count:
            raise UserError(
                f"model {self.name!r} has {result.shape[1]} outputs and its spec {self.spec.count} classes; "
                f"correct ModelSpec.classes"
            )


def normalised_layers(module: nn.Module) -> list[str]:
    """Inputs of the normalisation layers, "NAME:input"; without any, the outputs of the convolutions."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    parts = dict(module.named_modules()).items()
    inputs = [f"{name}:input" for name, part in parts if isinstance(part, norms) or running_statistics(part)]
    return inputs or [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]


def running_statistics(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Running mean and variance, (C,) each, of a normalisation layer, frozen or not; None for any other."""
    kept = dict(module.named_buffers(recurse=False))
    return (kept["running_mean"], kept["running_var"]) if {"running_mean", "running_var"} <= set(kept) else None


def head_of(module: nn.Module, classes: int) -> tuple[str, Tensor] | None:
    """("NAME:input", weight (classes, D)) of the last linear layer or 1x1 convolution with one row per class."""
    found = None
    for name, part in module.named_modules():
        linear = isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1))
        if linear and len(part.weight) == classes:
            found = f"{name}:input", part.weight.detach().flatten(1)
    return found


def has_channels_last(module: nn.Module) -> bool:
    """Whether a module acts on the last dimension of a map, as nn.Linear and nn.LayerNorm do.

    A subclass of LayerNorm with its own forward may permute its maps, as in ConvNeXt, so it is tested: one that acts on
    the last dimension fails on a map with C channels in front and C + 1 columns.
    """
    if type(module).forward is nn.Linear.forward:
        return True
    if not isinstance(module, nn.LayerNorm) or len(module.normalized_shape) != 1:
        return False
    if type(module).forward is nn.LayerNorm.forward:
        return True
    like, channels = next(module.parameters(), torch.empty(0)), module.normalized_shape[0]
    try:
        module.forward(like.new_zeros(1, channels, 1, channels + 1))
    except Exception:  # a third-party class may raise any exception
        return True
    return False
