"""Training of a part of a classifier: what moves, what stays, and the closed forms of its adapters."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bothways import UserError
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.classifier import FlowClassifier, classifier_loss
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.representation.paths.linear import linear
from bothways.representation.tuning import parts as tuning
from bothways.representation.tuning.config import Tune, tune_of
from bothways.types import ModelSpec
from small_flow import small_unet
from zoo import stand_in_for_torchvision

SHAPE = (3, 4, 4)
SPEC = ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)


def classifier(flow: nn.Module | None = None, kind: str = "walked", gradient: str = "exact", steps: int = 7) -> Any:
    how = Features(kind, 0.4, Walk(steps=steps, gradient=gradient), ("network.middle",), 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return FlowClassifier(Flow(flow or small_unet(), SPEC).double(), linear, SHAPE, 5, how)


def tuned(text: str, **others: Any) -> FlowClassifier:
    model = classifier(**others)
    if text.startswith("lora"):
        stand_in_for_torchvision()
        pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        tuning.tune(model, tune_of(text), SHAPE)
    return model


def moved(model: FlowClassifier) -> FlowClassifier:
    """With adapters whose second part is not zero."""
    source = generator(5, purpose="adapters")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=source, dtype=parameter.dtype))
    return model


def images(count: int = 3) -> Tensor:
    return torch.randn(count, *SHAPE, generator=generator(3, purpose="images"), dtype=torch.float64)


def batch() -> tuple[Tensor, ...]:
    source = generator(3, purpose="batch")
    x, z, noise = (torch.randn(4, *SHAPE, generator=source, dtype=torch.float64) for _ in range(3))
    return x, torch.tensor([0, 3, 4, 1]), z, noise, torch.tensor([0.1, 0.4, 0.6, 0.95], dtype=torch.float64)


def trained(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


class Attending(nn.Module):
    """A velocity by torch's own attention, a grouped convolution and a linear layer, over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.each = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        tokens = self.each(self.stem(x)).flatten(2).transpose(1, 2)
        seen = tokens + self.attend(tokens, tokens, tokens, need_weights=False)[0]
        return self.out(seen).transpose(1, 2).reshape(x.shape) * t.view(-1, 1, 1, 1) / 1000


def attending() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Attending()


@pytest.mark.parametrize(
    ("text", "read"),
    [("all", Tune("all")), ("head", Tune("head")), ("bias", Tune("bias")), ("last:3", Tune("last", 3)),
     ("lora:16", Tune("lora", 16))],
)  # fmt: skip
def test_the_names(text: str, read: Tune) -> None:
    assert tune_of(text) == read


@pytest.mark.parametrize(
    ("text", "says"),
    [("lor", "type one of all, head, last:N"), ("lora", "type lora:4"), ("last:0", "type last:2"),
     ("lora:-1", "type lora:4"), ("head:2", "type one of"), ("last:x", "type last:2"), ("", "type one of")],
)  # fmt: skip
def test_what_is_no_name_is_one_line(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as said:
        tune_of(text)
    assert "\n" not in str(said.value)


def test_biases_alone() -> None:
    model = tuned("bias")
    flow = {f"flow.{name}" for name, _ in model.flow.named_parameters() if name.endswith(".bias")}
    assert trained(model) == flow | {f"head.{name}" for name, _ in model.head.named_parameters()}


@pytest.mark.parametrize(("kind", "last"), [("walked", ("up.3", "head")), ("activations", ("middle.0", "middle.1"))])
def test_the_last_blocks_that_the_features_pass(kind: str, last: tuple[str, ...]) -> None:
    model = tuned("last:2", kind=kind)
    blocks = tuple(f"flow.network.{name}." for name in last)
    assert trained(model) == {name for name, _ in model.named_parameters() if name.startswith((*blocks, "head."))}
    with pytest.raises(UserError, match=r"pass \d+ blocks of the flow; type --tune last:\d+") as said:
        tuned("last:90", kind=kind)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("net", [small_unet, attending])
def test_an_adapted_flow_is_the_one_with_w_plus_b_a(net: Any) -> None:
    """Closed form: every weight replaced by W + B A, the convolution's as kernels of A mixed by B."""
    plain, model = classifier(net()), tuned("lora:2", flow=net())
    before = plain.state_dict()
    assert (model(images()) - plain(images())).abs().max() < 1e-12  # B begins as zero
    flow = {name for name in trained(model) if name.startswith("flow.")}
    assert flow
    assert all(".lora_" in name for name in flow)
    moved(model)
    with torch.no_grad():
        for name, part in model.flow.named_modules():
            if not hasattr(part, "lora_A"):
                continue
            a, b = (getattr(part, side)["default"].weight for side in ("lora_A", "lora_B"))
            shift = torch.einsum("or,ri->oi", b.flatten(1), a.flatten(1))
            key = f"flow.{name}.weight"
            before[key] = before[key] + shift.view(before[key].shape)
        plain.load_state_dict(before)
    assert (model(images()) - plain(images())).abs().max() < 1e-12
    kept = tuning.merged(model)
    assert kept.state_dict().keys() == before.keys()
    assert max((value - before[key]).abs().max().item() for key, value in kept.state_dict().items()) < 1e-12
    assert tuning.kept_size(model) == sum(p.numel() for p in plain.parameters())
    assert (model(images()) - plain(images())).abs().max() < 1e-12  # merging left the adapted one as it was
    assert tuning.merged(plain) is plain


@pytest.mark.parametrize("net", [small_unet, attending])
def test_the_gradient_of_an_adapter_is_that_of_all_steps(net: Any) -> None:
    found = []
    for gradient in ("exact", "direct"):
        model = moved(tuned("lora:2", flow=net(), gradient=gradient))
        loss, _ = classifier_loss(model, batch(), 0.7)
        parameters = [p for p in model.parameters() if p.requires_grad]
        found.append(torch.autograd.grad(loss, parameters))
    assert max((a - b).abs().max().item() for a, b in zip(*found, strict=True)) < 1e-12
    assert min(a.abs().max().item() for a in found[0]) > 0


def test_grouped_convolutions_and_torchs_own_attention_have_no_adapter() -> None:
    model = tuned("lora:3", flow=attending())
    adapted = {name for name, part in model.flow.network.named_modules() if hasattr(part, "lora_A")}
    assert adapted == {"stem", "out"}


def test_a_flow_without_such_parts_is_refused() -> None:
    class Scaling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.factor * x

    for text, says in (("lora:2", "no linear layer and no convolution"), ("bias", "has no biases")):
        with pytest.raises(UserError, match=says) as said:
            tuned(text, flow=Scaling())
        assert "\n" not in str(said.value)


@pytest.mark.parametrize("kind", ["walked", "activations", "both"])
def test_checkpointed_activations_give_the_same_gradients(kind: str) -> None:
    one, other = classifier(kind=kind), classifier(kind=kind)
    tuning.checkpoint_activations(other)
    assert one.state_dict().keys() == other.state_dict().keys()
    found = []
    for model in (one, other, copy.deepcopy(other)):
        loss, _ = classifier_loss(model, batch(), 0.7)
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    for gradients in found[1:]:
        assert max((a - b).abs().max().item() for a, b in zip(found[0], gradients, strict=True)) < 1e-12


def test_checkpointing_keeps_fewer_bytes() -> None:
    def kept(model: FlowClassifier) -> int:
        seen: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            output = model(images(64))
        assert output.requires_grad
        return sum(seen.values())

    one, other = classifier(steps=1), classifier(steps=1)
    tuning.checkpoint_activations(other)
    assert kept(other) < 0.6 * kept(one)


def test_a_copy_of_a_checkpointed_flow_computes_with_its_own_weights() -> None:
    model = classifier()
    tuning.checkpoint_activations(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.flow.parameters():
            parameter.zero_()
    assert (model(images()) - classifier()(images())).abs().max() < 1e-12
    assert (other(images()) - model(images())).abs().max() > 1e-4


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # within torch.compile
@pytest.mark.slow
def test_a_compiled_flow_computes_the_same() -> None:
    one, other = classifier(), classifier()
    tuning.compile_flow(other, backend="aot_eager")
    assert one.state_dict().keys() == other.state_dict().keys()
    found = []
    for model in (one, other):
        loss, _ = classifier_loss(model, batch(), 0.7)
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    assert max((a - b).abs().max().item() for a, b in zip(*found, strict=True)) < 1e-12


def test_what_cannot_be_compiled_is_one_line() -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no compiler\nat all")

    with pytest.raises(UserError, match="leave --compile out") as said:
        tuning.compile_flow(classifier(), backend=fails)  # type: ignore[arg-type]
    assert "\n" not in str(said.value)


def test_a_library_of_adapters_that_cannot_be_imported_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr(tuning, "find_spec", lambda name: object())
    monkeypatch.setattr(tuning, "torchvision_misfit", lambda: "torchvision 1 does not fit torch 2; type pip")
    with pytest.raises(UserError, match=r"^tune='lora': torchvision 1 does not fit torch 2; type pip$"):
        tuning.tune(classifier(), tune_of("lora:2"), SHAPE)
    monkeypatch.setattr(tuning, "torchvision_misfit", lambda: "")
    with pytest.raises(UserError, match=r"peft cannot be imported here .*; type --tune bias$"):
        tuning.tune(classifier(), tune_of("lora:2"), SHAPE)
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'type pip install "bothways\[lora\]"$'):
        tuning.tune(classifier(), tune_of("lora:2"), SHAPE)
