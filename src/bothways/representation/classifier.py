"""Flow-based classifier (PRG): a head on walked images or on the flow's activations.

logits = head(f(x))                               f: see representation/features.py, head: representation/heads
loss   = cross-entropy(logits) + beta L_FM(theta),  which keeps the flow generative

PRG, Xue et al. 2024, arXiv 2412.01787, eq. 3. Departures: the gradient of a walk is that of its discrete steps
(numerics/discrete_adjoint.py), where the code uses a continuous adjoint, off by O(h); beta L_FM, which the code leaves
out, is included; the features can also be the network's activations or pixels, as controls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, final

import torch
from torch import Tensor, nn

from bothways.numerics.discrete_adjoint import leaves_of
from bothways.numerics.draws import Draws
from bothways.representation.features import Features, features
from bothways.representation.flow_matching import flow_matching
from bothways.representation.heads import HeadFactory, built_head
from bothways.representation.heads.prg import PRGHead
from bothways.representation.tuning.targets import CLASS, NUMBERS, SEVERAL, class_loss, numbers_loss, several_loss
from bothways.types import Path

NOISE_SEED = 0  # of the fixed noise of noised activations

Pairs = tuple[Tensor, Tensor, Tensor]
"""x, noise, both (B,C,H,W) and paired, t (B,), from training/pairs.py"""


@final
class FlowClassifier(nn.Module):
    """A flow with a classification head: pictures in the flow's units (B,C,H,W) -> logits (B,classes).

    With pairs it returns (logits, L_FM (B,)), in one forward pass as DistributedDataParallel requires.
    flow: a velocity network, called as (x, t), registered as a submodule. path: of its training. shape: (C,H,W) of a
    picture. head: factory (D, classes) -> module. frozen: only the head is trained; the flow is in eval mode.
    target: class, multi-label, or regression, whose outputs are shift + scale head(f).
    Raises UserError for a layer missing in the flow, and for a head that gives no logits of the features.
    """

    noise: Tensor | None
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        flow: nn.Module,
        path: Path,
        shape: Sequence[int],
        classes: int,
        how: Features,
        *,
        frozen: bool = False,
        head: HeadFactory = PRGHead,
        target: str = CLASS,
    ) -> None:
        super().__init__()
        how.check(flow)
        self.flow, self.path, self.how, self.frozen = flow, path, how, frozen
        noise = Draws([NOISE_SEED]).normal(shape, purpose="activations") if how.noised else None
        self.register_buffer("noise", noise, persistent=False)
        flow.requires_grad_(not frozen).eval()
        like = next((p for p in flow.parameters() if p.is_floating_point()), torch.zeros(()))
        with torch.no_grad():
            entering = self.features(like.new_zeros(1, *shape))
        self.head = built_head(head, entering, classes)
        self.target = target
        if target == NUMBERS:
            self.register_buffer("shift", torch.zeros(classes))
            self.register_buffer("scale", torch.ones(classes))

    def features(self, x: Tensor) -> Tensor:
        """Features (B,D) at the input of the head."""
        return features(self.flow, self.path, x, self.how, None if self.noise is None else self.noise.to(x))

    def forward(self, x: Tensor, pairs: Pairs | None = None) -> Any:
        logits = self.head(self.features(x))
        if self.target == NUMBERS:
            logits = self.shift + self.scale * logits
        return logits if pairs is None else (logits, flow_matching(self.flow, self.path, *pairs))

    def train(self, mode: bool = True) -> FlowClassifier:
        super().train(mode)
        if self.frozen:
            self.flow.eval()
        return self


def classifier_loss(
    classifier: nn.Module,
    batch: Sequence[Tensor],
    beta: float,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
    target: str = CLASS,
) -> tuple[Tensor, dict[str, Tensor]]:
    """PRG's loss, that of the target + beta L_FM, and its parts, as means over the batch (eq. 3).

        L = -sum_k q_k log softmax(logits)_k + beta mean_i 1/2 ||v(x_t, t) - (a' x + s' z)||^2     for a class

    classifier: a ``FlowClassifier``, or a wrapper of one. batch: pictures in the flow's units (B,C,H,W), labels (B,) or
    (B,K), and with beta > 0 the pairs x, noise, t. smoothing: label smoothing, q = 1 - smoothing at the label and the
    rest uniform over all classes (Szegedy et al. 2016, arXiv 1512.00567). weights: of the classes, (K,). target: see
    representation/tuning/targets.py. Source: PRG, arXiv 2412.01787, eq. 3.
    """
    x, labels, *pairs = batch
    logits, losses = classifier(x, tuple(pairs)) if beta else (classifier(x), None)
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if target == NUMBERS:
        loss, stats = numbers_loss(logits, labels, dict(classifier.named_buffers())[_scale_of(classifier)])
    elif target == SEVERAL:
        loss, stats = several_loss(logits, labels, smoothing)
    else:
        loss, stats = class_loss(logits, labels, smoothing, weights)
    if losses is None:
        return loss, stats
    return loss + beta * losses.mean(), {**stats, "flow_matching": losses.mean()}


def _scale_of(classifier: nn.Module) -> str:
    return "scale" if isinstance(classifier, FlowClassifier) else "module.scale"  # of a wrapper


def freeze_unused(classifier: FlowClassifier, shape: Sequence[int]) -> int:
    """Freeze parameters that the logits do not depend on -> their number, such as a U-Net's decoder for "middle".

    For training without L_FM: DistributedDataParallel waits for a gradient of every trainable parameter.
    """
    like = next(classifier.head.parameters())
    reached = {id(leaf) for leaf in leaves_of([classifier(like.new_zeros(1, *shape))])}
    unreached = [p for p in classifier.parameters() if p.requires_grad and id(p) not in reached]
    for parameter in unreached:
        parameter.requires_grad_(False)
    return sum(p.numel() for p in unreached)


def layer_rates(classifier: FlowClassifier, decay: float, shape: Sequence[int]) -> Callable[[str], float]:
    """Layer-wise learning-rate decay: parameter name -> factor decay^k, k blocks below the head; 1 in the head.

    The blocks are the parts of the flow's network in the order of a forward pass; parts that it does not use count with
    the first. Source: Clark et al. 2020, arXiv 2003.10555 (layer-wise learning rates).
    """
    order = passed(classifier.flow, shape)
    power = {f"flow.{name}": len(order) - place for place, name in enumerate(order)}

    def factor(name: str) -> float:
        if name.startswith("head."):
            return 1.0
        blocks = [block for block in power if name.startswith(f"{block}.")]
        return decay ** (power[blocks[0]] if blocks else max(power.values(), default=0))

    return factor


@torch.no_grad()
def passed(flow: nn.Module, shape: Sequence[int]) -> list[str]:
    """Names of a network's blocks in the order of a forward pass."""
    order: dict[str, None] = {}
    like = next(flow.parameters())
    with ExitStack() as hooks:
        for name, block in blocks_of(flow):
            hooks.callback(block.register_forward_pre_hook(lambda _m, _i, name=name: order.setdefault(name)).remove)
        flow(like.new_zeros(1, *shape), like.new_full((1,), 0.5))
    return list(order)


def blocks_of(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """A network's children, with ModuleLists flattened and single-child wrappers unwrapped."""
    children = [(prefix + name, child) for name, child in module.named_children()]
    if len(children) == 1 and not list(module.parameters(recurse=False)):
        return blocks_of(children[0][1], f"{children[0][0]}.") or children
    return [block for name, child in children for block in _unlisted(name, child)]


def _unlisted(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
    if not isinstance(module, nn.ModuleList):
        return [(name, module)]
    return [block for place, child in enumerate(module) for block in _unlisted(f"{name}.{place}", child)]
