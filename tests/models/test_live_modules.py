"""A live module is read as if it were in eval mode, and is its owner's as before: mode, statistics, parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, UserError, load_flow, load_model
from bothways.judging.verdicts import penultimate
from bothways.models.adapter import Adapter
from bothways.numerics.draws import generator
from bothways.representation.activations import activations

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
SPEC = ModelSpec(8, MEAN, STD, 4, feature_layer="body")
FLOW = ModelSpec(8, MEAN, STD, 0, path="linear")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Velocity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Dropout(0.5))
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.last(self.body(x)) * (1 + time.to(x.dtype))[:, None, None, None]


def made(kind: Callable[[], nn.Module] = Net) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = kind()
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 1.5)
    return net


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator(1))


def state(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def modes(net: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in net.named_modules()}


def same(net: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


# ---- modes ---------------------------------------------------------------------------------------------------------


def draw(model: Adapter) -> Tensor:
    return bothways.generate(model, classes=[1], n=2, steps=3, seed=0, recipe="icons", data=None).images


@pytest.mark.filterwarnings("ignore")
def test_a_module_that_is_put_in_train_mode_says_and_draws_the_same_and_keeps_its_statistics() -> None:
    net = made()
    model, image = load_model(net, SPEC), pictures()
    net.body.eval()  # a part of it, as of one whose statistics are frozen
    kept, before = modes(net), state(net)
    wanted = load_model(made().eval(), SPEC)
    assert torch.equal(model.outputs(image), wanted.outputs(image))
    net.train()
    for layer in ("body", "body.1:input"):
        assert torch.equal(model.features(image, [layer])[layer], wanted.features(image, [layer])[layer])
    assert torch.equal(draw(model), draw(wanted))
    assert torch.equal(penultimate(model, image)[1], penultimate(wanted, image)[1])
    assert modes(net) == dict.fromkeys(kept, True)
    assert same(net, before)
    net.train().body.eval()
    model.outputs(image)
    assert modes(net) == kept


def test_a_module_given_to_a_task_keeps_its_mode(tmp_path: Path) -> None:
    net = made().train()
    before = state(net)
    bothways.predict(net, pictures(), spec=SPEC)
    assert all(modes(net).values())
    assert same(net, before)
    with pytest.raises(UserError):  # also where it is refused
        load_model(net, ModelSpec(8, MEAN, STD, 7))
    assert all(modes(net).values())


def test_so_does_one_that_a_function_returns() -> None:
    net, velocity = made().train(), made(Velocity).train()
    load_model(lambda: (net, SPEC)).outputs(pictures())
    load_flow(lambda: (velocity, FLOW))
    assert all(modes(net).values())
    assert all(modes(velocity).values())


def test_a_sequential_is_one_model_where_several_are_taken() -> None:
    net, model = nn.Sequential(made()), load_model(made(), SPEC)
    quick = {"n": 1, "recipe": "das", "steps": 1}
    for given in ({"condition": net}, {"model": model, "judges": net}):
        with pytest.raises(UserError, match="got a Sequential without a ModelSpec"):
            bothways.generate(classes=1, **given, **quick)
    with pytest.raises(UserError, match=r"spec= is of MODEL, .*; give condition=load_model\(module, spec\)"):
        bothways.generate(classes=1, condition=net, spec=SPEC, **quick)


def test_a_velocity_network_in_train_mode_gives_the_velocities_of_one_in_eval_mode() -> None:
    net, other = made(Velocity), made(Velocity).eval()
    before = state(net)
    flow, wanted = load_flow(net.train(), FLOW), load_flow(other, FLOW)
    x, t = torch.randn(2, 3, 8, 8, generator=generator(2)), torch.tensor([0.2, 0.7])
    assert torch.equal(flow(x, t), wanted(x, t))
    samples = [bothways.sample(given, n=3, steps=3, seed=1).images for given in (flow, wanted)]
    assert torch.equal(*samples)
    walked = [bothways.encode(given, pictures(), 0.5, 3) for given in (flow, wanted)]
    assert torch.equal(*walked)
    assert all(modes(net).values())
    assert same(net, before)
    assert all(p.requires_grad for p in net.parameters())
    flow.train()  # of the flow itself it is what a training sets
    assert not torch.equal(flow(x, t), wanted(x, t))


@pytest.mark.parametrize(
    ("load", "address"),
    [
        (load_model, "bundled:cifar10-attention"),
        (load_model, "bundled:cifar10-prg"),
        (load_flow, "bundled:cifar10-flow"),
        (lambda address: bothways.load_classifier(address, solver="heun"), "bundled:cifar10-prg"),
        (load_model, "FILE"),
    ],
)
def test_loading_leaves_the_random_state_of_its_caller(
    load: Callable[[str], object], address: str, tmp_path: Path
) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import bothways\nfrom torch import nn\n\n\ndef build():\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))\n"
        "    return net, bothways.ModelSpec(8, 0.5, 0.5, 4)\n"
    )
    before = torch.get_rng_state()
    load(address.replace("FILE", f"{own}:build"))
    assert torch.equal(torch.get_rng_state(), before)


# ---- compiled modules ----------------------------------------------------------------------------------------------


def whole(net: nn.Module) -> nn.Module:
    return torch.compile(net, backend="eager")


def in_place(net: nn.Module) -> nn.Module:
    net.compile(backend="eager")
    return net


def inside(net: nn.Module) -> nn.Module:
    net.body = torch.compile(net.body, backend="eager")
    return net


@pytest.mark.parametrize("compiled", [whole, in_place, inside])
def test_the_layers_of_a_compiled_module_are_read_after_its_outputs(compiled: Callable[[nn.Module], nn.Module]) -> None:
    image, wanted = pictures(), load_model(made().eval(), SPEC)
    model = load_model(compiled(made().eval()), SPEC)
    layers = ["body.1:input", "body", "head:input", "outputs"]
    for _ in range(2):
        assert (model.outputs(image) - wanted.outputs(image)).abs().max() < 1e-6
        found, expected = model.features(image, layers), wanted.features(image, layers)
        assert all(torch.equal(found[layer], expected[layer]) for layer in layers)
    assert model.layers() == wanted.layers()
    assert list(model.batch_norm_statistics()) == ["body.1:input"]
    assert model.statistics_layers() == wanted.statistics_layers()
    head = model.head()
    assert head is not None
    assert head[0] == "head:input"


def test_a_compiled_module_goes_by_the_name_of_its_class() -> None:
    assert load_model(whole(made()), SPEC).name == "Net"
    assert load_flow(whole(made(Velocity)), FLOW).name == "Velocity"


def test_a_module_in_a_wrapper_for_several_devices_is_the_one_inside() -> None:
    image, plain = pictures(), load_model(made(), SPEC)
    model = load_model(nn.DataParallel(made()), SPEC)
    assert (model.name, model.layers()) == ("Net", plain.layers())
    (found, _), (expected, _) = (bothways.dsf_score(given, image, engine="difference") for given in (model, plain))
    assert torch.equal(found, expected)
    x, t = torch.randn(2, 3, 8, 8, generator=generator(2)), torch.tensor([0.2, 0.7])
    flows = [load_flow(net, FLOW) for net in (nn.DataParallel(made(Velocity)), made(Velocity))]
    assert torch.equal(*(flow(x, t) for flow in flows))
    assert torch.equal(*(activations(flow, x, 0.3, ["network.body"])["network.body"] for flow in flows))


def test_a_compiled_module_is_compiled_where_its_outputs_alone_are_read() -> None:
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., object]:
        def run(*given: object) -> object:
            calls.append(1)
            return graph.forward(*given)

        return run

    model = load_model(torch.compile(made().eval(), backend=backend), SPEC)
    calls.clear()
    model.outputs(pictures())
    assert len(calls) == 1
    model.features(pictures(), ["body"])
    assert len(calls) == 1


def test_the_layers_of_a_compiled_velocity_network_are_read_too() -> None:
    plain, compiled = (load_flow(net, FLOW) for net in (made(Velocity), whole(made(Velocity))))
    x, t = torch.randn(2, 3, 8, 8, generator=generator(2)), torch.tensor([0.2, 0.7])
    assert (plain(x, t) - compiled(x, t)).abs().max() < 1e-6
    found = activations(compiled, x, 0.3, ["network.body"])["network.body"]
    assert torch.equal(found, activations(plain, x, 0.3, ["network.body"])["network.body"])


# ---- precision and devices -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "close"), [(torch.float16, 0.02), (torch.bfloat16, 0.1), (torch.float64, 1e-5)])
def test_a_module_works_in_its_own_precision(kind: torch.dtype, close: float) -> None:
    image, wanted = pictures(), load_model(made().eval(), SPEC)
    model = load_model(made().eval().to(kind), SPEC)
    found = model.features(image, ["body", "outputs"])
    assert found["outputs"].dtype == torch.float32
    for layer, value in wanted.features(image, ["body", "outputs"]).items():
        assert (found[layer] - value).abs().max() < close
    shown = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.outputs(shown).sum(), shown)
    assert gradient.dtype == torch.float32
    assert wanted.outputs(image.double()).dtype == torch.float64


@pytest.mark.parametrize(("kind", "close"), [(torch.float16, 0.02), (torch.bfloat16, 0.1), (torch.float64, 1e-5)])
def test_so_does_a_velocity_network(kind: torch.dtype, close: float) -> None:
    flow, wanted = load_flow(made(Velocity).to(kind), FLOW), load_flow(made(Velocity), FLOW)
    x, t = torch.randn(2, 3, 8, 8, generator=generator(2)), torch.tensor([0.2, 0.7])
    assert flow(x, t).dtype == torch.float32
    assert (flow(x, t) - wanted(x, t)).abs().max() < close
    walked = [bothways.encode(given, pictures(), 0.5, 3) for given in (flow, wanted)]
    assert walked[0].dtype == torch.float32
    assert (walked[0] - walked[1]).abs().max() < 2 * close
    assert bothways.sample(flow, n=2, steps=2).images.shape == (2, 3, 8, 8)


def test_the_time_is_scaled_before_it_is_rounded_to_half_precision() -> None:
    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return torch.zeros_like(x) + time[:, None, None, None]

    flow = load_flow(Told(), ModelSpec(8, MEAN, STD, 0, path="linear", time_scale=1000.0))
    t = torch.tensor([0.333, 0.9])
    assert flow(torch.zeros(2, 3, 8, 8), t)[:, 0, 0, 0].tolist() == (1000 * t).bfloat16().tolist()


@pytest.mark.parametrize("load", [lambda net: load_model(net, SPEC), lambda net: load_flow(net, FLOW)])
def test_a_module_without_numbers_says_so(load: Callable[[nn.Module], object]) -> None:
    for net in (made(), made(Velocity)):
        with pytest.raises(UserError, match=r'holds no numbers: .* on the device "meta"') as caught:
            load(net.to("meta"))
        assert "\n" not in str(caught.value)


def test_what_is_loaded_as_the_other_kind_says_so_in_a_line() -> None:
    flow, model = load_flow(made(Velocity), FLOW), load_model(made(), SPEC)
    for given in (lambda: load_model(flow), lambda: bothways.generate(flow, 1)):
        with pytest.raises(UserError, match="'Velocity' is loaded as a flow, and a model is needed; type load_model"):
            given()
    with pytest.raises(UserError, match=r"flow is Adapter\('Net', 8x8, 4 classes\); give a run"):
        bothways.encode(model, pictures())
    for other in (made(), "bundled:cifar10-resnet"):
        with pytest.raises(UserError, match=r"layers: model is .*; give what load_model returns"):
            bothways.layers(other)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ((255 * pictures()).byte(), r"dsf: images of torch.uint8; give floats in \[0, 1\], such as x / 255"),
        (255 * pictures(), r"dsf: images holds numbers from .* to 25.*; pictures are in \[0, 1\], such as x / 255"),
    ],
)
def test_the_score_is_taken_of_pictures(images: Tensor, says: str) -> None:
    with pytest.raises(UserError, match=says):
        bothways.dsf_score(load_model(made(), SPEC), images)


def test_a_lazy_module_says_what_it_waits_for(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    save_file({"1.weight": torch.zeros(4, 192), "1.bias": torch.zeros(4)}, tmp_path / "own.safetensors")
    for weights in (None, tmp_path / "own.safetensors"):
        with pytest.raises(UserError, match=r"no numbers yet: its parameter 1.weight .*; call the module once"):
            load_model(net, ModelSpec(8, MEAN, STD, 4), weights=weights)
    net(pictures())
    assert load_model(net, ModelSpec(8, MEAN, STD, 4)).outputs(pictures()).shape == (2, 4)


def test_the_device_meta_is_refused() -> None:
    for load, net, spec in ((load_model, made(), SPEC), (load_flow, made(Velocity), FLOW)):
        with pytest.raises(UserError, match='device "meta" holds no numbers'):
            load(net, spec, device="meta")


class Raises(nn.Module):
    def __init__(self, error: Exception, kind: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.first, self.last, self.error = nn.Linear(3, 4), nn.Linear(4, 4).to(kind), error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


class Mixed(Raises):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.mean((2, 3))))


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Raises(RuntimeError("the lookup table is closed")), "mend the module's forward"),
        (Raises(ValueError("no such route")), "mend the module's forward"),
        (Mixed(ValueError(), torch.float16), "float16 and float32; give them one dtype"),
        (Raises(RuntimeError("expected scalar type Long but found Float")), "mend the dtype in its forward"),
        (Raises(TypeError("forward() missing 1 required positional argument")), "takes the pictures alone"),
    ],
)
def test_what_is_no_matter_of_size_gets_no_advice_on_size(net: nn.Module, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_model(net, ModelSpec(8, MEAN, STD, 4))
    assert "ModelSpec.size" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_a_matter_of_size_does() -> None:
    with pytest.raises(UserError, match=r"mend ModelSpec\.size"):
        load_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 49, 4)), ModelSpec(8, MEAN, STD, 4))


# ---- modules that take no hooks ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*statistics")
@pytest.mark.parametrize("kind", ["script", "trace", "freeze", "export"])
@pytest.mark.parametrize("classes", [4, 0])
def test_a_module_of_torchscript_or_of_an_export_draws_as_a_whole(kind: str, classes: int, tmp_path: Path) -> None:
    net, image, spec = made().eval(), pictures(), ModelSpec(8, MEAN, STD, classes)
    make = {
        "script": lambda: torch.jit.script(net),
        "trace": lambda: torch.jit.trace(net, image),
        "freeze": lambda: torch.jit.freeze(torch.jit.script(net)),
        "export": lambda: torch.export.export(net, (image,), dynamic_shapes=({0: torch.export.Dim("b")},)).module(),
    }

    def build() -> tuple[nn.Module, ModelSpec]:
        return make[kind](), spec

    model = load_model(build)
    assert (model.outputs(image) - load_model(net, SPEC).outputs(image)).abs().max() < 1e-5
    assert (load_model(make[kind](), spec).outputs(image) - model.outputs(image)).abs().max() < 1e-5
    if classes:
        assert bothways.generate(model, 1, 1, "das", steps=2, judges=[]).images.isfinite().all()
        if kind == "script":
            with pytest.raises(UserError, match="shows no layer, as one of TorchScript; give the module as written"):
                bothways.accentuate(model, image[:1], steps=1, judges=[])
        if kind != "export":  # whose parameters can be replaced
            with pytest.raises(
                UserError, match=r"'.*' is of TorchScript, whose parameters cannot be .*; give the module"
            ):
                bothways.generate(model, None, 1, "dsf", steps=1, judges=[])
            with pytest.raises(
                UserError, match="no default style layers; it shows no layer, as one of TorchScript; give"
            ):
                bothways.style(
                    model, image[:1], image[1:2], terms={"content": {"layer": "outputs"}}, steps=1, judges=[]
                )
    else:
        found = bothways.invert(model, image[:1], recipe="invert", steps=2, judges=[])
        assert found.images.isfinite().all()


def test_a_module_without_parameters_has_no_score() -> None:
    model = load_model(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), ModelSpec(8, MEAN, STD, 3))
    with pytest.raises(UserError, match="has no parameters, whose gradient the score is of; type another recipe"):
        bothways.dsf_score(model, pictures())


# ---- outputs that are no logits --------------------------------------------------------------------------------------


def test_outputs_that_are_probabilities_already_are_told() -> None:
    with pytest.warns(UserWarning, match=r"model 'Sequential': its outputs .* sum to 1, as those of a softmax; leave"):
        load_model(nn.Sequential(made(), nn.Softmax(1)), ModelSpec(8, MEAN, STD, 4))
    with pytest.warns(UserWarning, match="sum to 1"):
        load_model(nn.Sequential(made().half(), nn.Softmax(1)), ModelSpec(8, MEAN, STD, 4))


def test_rows_that_are_not_the_pictures_are_refused() -> None:
    class First(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:1]

    model = load_model(First(), ModelSpec(8, MEAN, STD, 4))
    with pytest.raises(UserError, match=r"of shape \(1, 4\) for 3 pictures, not a tensor \(B,K\)"):
        model.outputs(torch.rand(3, 3, 8, 8))


class Random(Net):
    """Drops activations in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.dropout(x, 0.5))


class RandomVelocity(nn.Module):
    """A velocity with noise that it draws itself."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Complex(Net):
    """Gives complex numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.complex(super().forward(x), super().forward(x))


class Asserting(Net):
    """Fails by an assertion that is not about the pictures."""

    def __init__(self, said: str | None) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: Tensor) -> Tensor:
        if self.said is None:
            raise AssertionError
        raise AssertionError(self.said)


def test_a_module_that_is_random_when_it_is_not_trained_is_told() -> None:
    told = "two calls on the same picture give different numbers, so that no run can be repeated; .* F.dropout without"
    with pytest.warns(UserWarning, match=f"model 'Random': {told}"):
        load_model(Random(), ModelSpec(8, MEAN, STD, 4))
    with pytest.warns(UserWarning, match=f"flow 'RandomVelocity': {told}"):
        load_flow(RandomVelocity(), FLOW)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(nn.Sequential(nn.Dropout(0.5), made()), ModelSpec(8, MEAN, STD, 4))


def test_complex_outputs_are_refused() -> None:
    with pytest.raises(UserError, match=r"returns a Tensor of complex numbers, not a tensor \(B,K\); wrap"):
        load_model(Complex(), ModelSpec(8, MEAN, STD, 4))


def test_an_assertion_is_about_the_size_where_it_says_so_or_nothing() -> None:
    for said, advice in (
        ("the queue is empty", "mend the module's forward"),
        ("the height does not match", "mend ModelSpec.size or channel_order"),
        (None, "mend ModelSpec.size or channel_order"),
    ):
        with pytest.raises(UserError, match=advice):
            load_model(Asserting(said), ModelSpec(8, MEAN, STD, 4))


def test_another_path_than_the_flow_was_trained_on_is_refused() -> None:
    with pytest.raises(UserError, match="flow 'bundled:cifar10-flow' is of the path linear, and path= is 'gvp'; leave"):
        load_flow("bundled:cifar10-flow", path="gvp")
    assert load_flow("bundled:cifar10-flow", path="linear").spec.path == "linear"
