"""Adapter of an nn.Module and its ModelSpec to a VisionModel; all preprocessing is applied here.

f(image) = module((image[channel order] - mean) / std),   image (B,3,H,W) RGB in [0,1]

A grey model sees the mean over the three, (B,1,H,W). One output z for two classes is the logit of class 1 against class
0: the logits are (-z/2, z/2), whose softmax is the sigmoid, so that each class has a logit to ascend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bothways.budget import no_memory_left
from bothways.models.calls import check_dtype, check_facts, check_held, encoded, moments_of, refusal, warn_outputs
from bothways.models.libraries.hub import Text
from bothways.numerics.layers import OUTPUT, TOKEN, Layout, called_head, normalised_layers, recorded, running_statistics
from bothways.numerics.modules import check_finite, evaluating, hookable, own_dtype, parts_of, uncompiled
from bothways.types import ModelSpec, RunError, UserError

SPEC_LINES = (
    "state its facts: bothways.ModelSpec(size=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), classes=1000)"
)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}


class Adapter:
    """A module with its preprocessing as a VisionModel; outputs and features are differentiable in the image.

    The module is in eval mode during each call, and in its own mode after it; its parameters are left as they are, and
    it works in their precision. Pictures go in channels last where it can.
    dtype: "float32", or "bf16" / "float16" for autocast; what comes out is float32 (float64 stays float64).
    text: what encodes prompts, P of them -> (P,D) in the space of the outputs, for a model that has such a thing.
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
        check_dtype(dtype, DTYPES)
        self.spec, self.name, self.device, self.dtype = spec, name, device, dtype
        self._text, self.typed = text, name  # how a command names it, with its weights
        check_held(module, f"model {name!r}")
        check_facts(spec, name)
        module = module.to(device)
        self.module = hookable(module)
        self.compiled = module if module is not self.module else None
        with torch.inference_mode(False):  # kept, so that no call copies them to a GPU; later ones have gradients
            self._moments = moments_of(spec, self._grey_picture(1, 1))
        self._single = False  # one output for two classes
        self._layout = Layout(name, partial(parts_of, self.module), self._look, (spec.height, spec.width))
        # 1.8 times as fast for small convolutions on a CPU, the same numbers to rounding
        self.channels_last = True
        try:
            self._check()
        except UserError as error:
            if "view size" not in str(error):
                raise
            self.channels_last = False  # a module that calls view on its maps needs the contiguous layout
            self._check()

    def __repr__(self) -> str:
        return f"Adapter({self.name!r}, {self.spec.height}x{self.spec.width}, {self.spec.count} classes)"

    def outputs(self, image: Tensor) -> Tensor:
        """Logits or embedding, (B,3,H,W) in [0,1] -> (B,K)."""
        return self.features(image, ["outputs"])["outputs"]

    def features(self, image: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        """Activations {layer: tensor} of one forward pass; a layer is "NAME", "NAME:input", "NAME:first" or "outputs".

        Maps are (B,C,H,W), also at layers that have their channels last; tokens are (B,N,C).
        Raises UserError for an unknown layer, with the nearest names, and for a size that the model cannot take;
        RunError if out of memory.
        """
        return self.features_with({}, image, layers)

    def text(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings of prompts, (P,D), with rows of unit norm in the space of ``outputs``, without gradient.

        Prompts are truncated to the model's context. Raises UserError for a model without a text encoder, and for one
        whose encoder fails or gives rows of another width.
        """
        if self._text is None:
            raise UserError(
                f"model {self.name!r} reads no text; type one that does, such as clip:ViT-B/32; "
                "of your own: return (module, spec, text) from PATH.py:FUNCTION, or load_model(module, spec, text=...)"
            )
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts:
            raise UserError(f'model {self.name!r}: no prompt was given; type one, such as "a photo of a frog"')
        with torch.no_grad():
            rows = encoded(self._text, prompts, self._width, f"model {self.name!r}")
            return F.normalize(rows.float(), dim=1).to(self.device)

    @property
    def reads_text(self) -> bool:
        return self._text is not None

    def parameters(self) -> dict[str, Tensor]:
        """The module's parameters {name: value}, detached: they share its memory, without gradients."""
        return {name: value.detach() for name, value in self.module.named_parameters()}

    def features_with(
        self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """``features`` with some parameters replaced in this call (functional call), differentiable in them too.

        The module's own parameters are restored after the call and after an error; torch.func may transform it.
        """
        found = self._all(self._seen(parameters, image, layers), layers)
        if not torch.is_grad_enabled():  # a result, which nothing further down would look at
            for layer, value in found.items():
                check_finite(value, f"model {self.name!r} gives {layer} of pictures {tuple(image.shape)}")
        return found

    def contributions(self, image: Tensor, layers: Sequence[str], labels: Tensor) -> Mapping[str, Tensor]:
        """{layer: a dz/da}, of the shape of a, its activation; z: the output of each picture's label (B,)."""
        seen: dict[str, Tensor] = {}

        def keep(layer: str, value: Tensor) -> Tensor:
            seen[layer] = value
            return value.clone()  # an in-place activation that follows would write over what is kept

        with torch.enable_grad(), recorded(parts_of(self.module), layers, keep, self.name):
            outputs = self._forward(image.detach().requires_grad_(), {}, True)
            found = self._all(seen, layers)
            gradients = torch.autograd.grad(
                outputs.gather(1, labels[:, None]).sum(),
                list(found.values()),
                allow_unused=True,
                materialize_grads=True,
            )
        pairs = zip(found.items(), gradients, strict=True)
        return self._layout.in_front({layer: (value * gradient).detach() for (layer, value), gradient in pairs})

    def layers(self) -> list[str]:
        """The dotted names of all modules."""
        return [name for name in parts_of(self.module) if name]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{layer: shape of what it gives for one picture of the stated size}: (C,H,W), (N,C) or (C,).

        Layers that are not used, that give no tensor, or whose channels cannot be told are missing. Where an image is
        split over rows of the batch, the shape is that of one row.
        """
        seen: dict[str, Tensor] = {}

        def keep(layer: str, value: Tensor) -> None:
            seen[layer] = torch.empty(value.shape, device="meta")  # a shape, and no memory

        with torch.no_grad(), recorded(parts_of(self.module), self.layers(), keep, self.name):
            self._forward(self._grey_picture(self.spec.height, self.spec.width), {}, True)
        return {layer: tuple(value.shape[1:]) for layer, value in self._layout.told(seen).items()}

    def batch_norm_statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Running statistics {"NAME:input": (mean (C,), variance (C,))} of every BatchNorm layer with them.

        Frozen BatchNorm, as in the backbones of detectors, is included.
        """
        kept = {name: running_statistics(part) for name, part in parts_of(self.module).items()}
        return {f"{name}:input": pair for name, pair in kept.items() if pair and f"{name}:input" in self._measurable}

    def statistics_layers(self) -> list[str]:
        """Layers for channel statistics: the inputs of normalisation layers, else the outputs of convolutions.

        Layers that are not used are left out, and those in which an image is split over rows of the batch.
        """
        return list(self._measurable)

    def head(self) -> tuple[str, Tensor] | None:
        """("NAME:input", rows (classes, D)) of the linear map or 1x1 convolution that gives the outputs, if any."""
        rows = self._layout.heads(1 if self._single else self.spec.count).get(self._head or "")
        if rows is None:
            return None
        return f"{self._head}:input", torch.cat([-rows, rows]) / 2 if self._single else rows

    def feature(self) -> str:
        """The layer of the features: the stated one, a classifier's head's input or outputs, what an encoder gives."""
        return self.spec.feature_layer or ((self.head() or ("outputs",))[0] if self.spec.count else OUTPUT)

    def _seen(self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Run one forward pass and record the layers; those without a tensor are missing in the result."""
        seen: dict[str, Tensor] = {}

        def keep(layer: str, value: Tensor) -> None:
            # autocast may hand over bfloat16, in which statistics would be rounded; an in-place activation that follows
            # would write over what is kept
            seen[layer] = value.float() if value.dtype in (torch.bfloat16, torch.float16) else value.clone()

        inner = [layer for layer in layers if layer != "outputs"]
        with recorded(parts_of(self.module), inner, keep, self.name):
            outputs = self._forward(image, parameters, bool(inner))
        seen = self._layout.in_front(seen)
        return {**seen, "outputs": outputs}

    def _all(self, seen: Mapping[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
        unseen = [layer for layer in layers if layer not in seen]
        if unseen:
            told = "is not used or returns no tensor; type one inside it"
            told = "gives no tokens; leave :first out" if unseen[0].endswith(TOKEN) else told
            raise UserError(f"model {self.name!r}: layer {unseen[0]!r} {told}")
        return {layer: seen[layer] for layer in layers}

    def _forward(self, image: Tensor, parameters: Mapping[str, Tensor], hooked: bool) -> Tensor:
        """One forward pass -> (B,K). hooked: whether its layers are read, which a compiled module does not show."""
        seen = self.module_input(image)
        module = self.module if hooked or parameters or self.compiled is None else self.compiled
        try:
            with (
                torch.autocast(seen.device.type, DTYPES[self.dtype], enabled=self.dtype != "float32"),
                evaluating(module),
                uncompiled(module) if hooked or parameters else nullcontext(),
            ):
                result = functional_call(module, dict(parameters), (seen,)) if parameters else module(seen)
        except (UserError, RunError):
            raise
        except Exception as error:
            if no_memory_left(error):
                told = f"no memory is left for {len(image)} views; type fewer --copies"
                raise RunError(f"model {self.name!r}: {told}") from error
            raise refusal(error, self.module, self.spec, self.name, image) from error
        if not isinstance(result, Tensor) or result.ndim < 2 or len(result) != len(image) or result.is_complex():
            shape = f" of shape {tuple(result.shape)} for {len(image)} pictures" if isinstance(result, Tensor) else ""
            shape = " of complex numbers" if isinstance(result, Tensor) and result.is_complex() else shape
            raise UserError(
                f"model {self.name!r} returns a {type(result).__name__}{shape}, not a tensor (B,K); "
                "wrap it in a module whose forward returns the logits or the embedding, (B,K)"
            )
        found = result.flatten(1).to(image.dtype if image.dtype == torch.float64 else torch.float32)
        return torch.cat([-found, found], 1) / 2 if self._single else found

    def module_input(self, image: Tensor) -> Tensor:
        """What the module sees of pictures (B,3,H,W), in its own precision."""
        seen = image.flip(1) if self.spec.channel_order == "BGR" else image
        mean, std = self._moments
        if (mean.dtype, mean.device) != (seen.dtype, seen.device):
            mean, std = moments_of(self.spec, seen)
        seen = (seen - mean) / std
        seen = seen.mean(1, keepdim=True) if self.spec.channel_order == "grey" else seen
        return self._laid_out(seen.to(own_dtype(self.module) or seen.dtype))

    def _laid_out(self, seen: Tensor) -> Tensor:
        if not self.channels_last:
            return seen.contiguous()
        # equals contiguous(memory_format=torch.channels_last), in operations that torch.func.vmap supports
        return seen.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    def _grey_picture(self, height: int, width: int) -> Tensor:
        kind = torch.float64 if own_dtype(self.module) == torch.float64 else torch.float32
        return torch.full((1, 3, height, width), 0.5, device=self.device, dtype=kind)

    def _look(self, height: int, width: int) -> object:
        return self._forward(self._grey_picture(height, width), {}, True)

    def _check(self) -> None:
        """One forward pass at the stated size, so that wrong facts are refused before anything is drawn."""
        layers = [self.spec.feature_layer, "outputs"] if self.spec.feature_layer else ["outputs"]
        candidates = normalised_layers(parts_of(self.module))
        heads = self._layout.heads(self.spec.count) | (self._layout.heads(1) if self.spec.count == 2 else {})
        grey = self._grey_picture(self.spec.height, self.spec.width)
        with torch.no_grad():
            seen = self._seen({}, grey, [*layers, *candidates, *heads])
            again = self._forward(grey, {}, True)
        result = self._all(seen, layers)["outputs"]
        self._head = called_head(heads, seen, result)
        self._width = result.shape[1]
        self._measurable = [layer for layer in candidates if layer in seen and len(seen[layer]) == 1]
        alone = getattr(self.module, "each_alone", False)  # of a run of finetune for labels or numbers
        if not alone and (self.spec.count == 1 or (self.spec.count > 2 and result.shape[1] == 1)):
            raise UserError(
                f"model {self.name!r}: {self.spec.count} classes of {result.shape[1]} outputs; one output tells two "
                "classes apart, class 1 from class 0: state ModelSpec(classes=2) or their two names, or classes=0"
            )
        self._single = self.spec.count == 2 and result.shape[1] == 1
        if self.spec.count and result.shape[1] != self.spec.count and not self._single:
            given = f"model {self.name!r} has {result.shape[1]} outputs and its spec {self.spec.count} classes"
            raise UserError(f"{given}; correct ModelSpec.classes")
        warn_outputs(result, again, self.spec.count, self.name)
