"""The Discriminative Score Function against plain loops of torch.autograd and numerical slopes; its engines."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bothways.models.adapter import Adapter
from bothways.models.loader import load_model
from bothways.numerics.draws import Draws
from bothways.synthesis.das import toward
from bothways.synthesis.dsf.engines import ENGINES, full_precision
from bothways.synthesis.dsf.score import dsf, dsf_score
from bothways.synthesis.dsf.second_order import REVERSE_OVER_FORWARD, REVERSE_OVER_REVERSE, ReplacedFunctions
from bothways.synthesis.objectives.variation import total_variation
from bothways.synthesis.views.crop import RandomCrop
from bothways.synthesis.views.noise import Noise
from bothways.synthesis.views.roll import Roll
from bothways.types import ModelSpec, TrainedModel, UserError, VisionModel

SPEC = ModelSpec(12, (0.5, 0.4, 0.6), (0.25, 0.3, 0.2), 4, feature_layer="body")
EXACT = ("double_backward", "jvp")
DISTANCES = ("norm", "log", "angle")


class Net(nn.Module):
    """A body and a head, all smooth: grouped and strided convolutions, group and instance normalisation."""

    def __init__(self, body: nn.Module | None = None, width: int = 6) -> None:
        super().__init__()
        first = [nn.Conv2d(3, width, 3, padding=1), nn.Softplus(), nn.GroupNorm(2, width)]
        second = [nn.Conv2d(width, width, 3, (2, 1), 1, groups=2, bias=False), nn.InstanceNorm2d(width, affine=True)]
        self.body = body or nn.Sequential(*first, *second, nn.Tanh())
        self.head = nn.Linear(width, 4)
        self.offsets = nn.ParameterList([torch.zeros(4), torch.zeros(4)])  # with the bias, three of one gradient

    def forward(self, x: Tensor) -> Tensor:
        seen = self.body(x)
        return self.head(seen.mean((2, 3)) if seen.ndim == 4 else seen.mean(1)) + self.offsets[0] + self.offsets[1]


class Attending(nn.Module):
    """One block of attention by PyTorch's own function, (B,3,H,W) -> (B,tokens,6)."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.tokens, self.norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.query_key_value, self.mlp = nn.Linear(width, 3 * width), nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x).flatten(2).transpose(1, 2)
        q, k, v = self.query_key_value(self.norm(x)).view(*x.shape[:2], 3, 2, -1).permute(2, 0, 3, 1, 4)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.mlp(x)


def adapter(
    body: Callable[[], nn.Module | None] = lambda: None, *, double: bool = True, dtype: str = "float32"
) -> Adapter:
    with torch.random.fork_rng():
        torch.random.manual_seed(3)
        module = Net(body())
        for value in module.parameters():
            value.data += 0.1 * torch.randn(value.shape)
    return Adapter(module.double() if double else module, SPEC, dtype=dtype)


@pytest.fixture(scope="module")
def smooth() -> Adapter:
    return adapter()


@pytest.fixture(scope="module", params=["convolution", "attention"])
def model(request: pytest.FixtureRequest) -> Adapter:
    return adapter(Attending if request.param == "attention" else lambda: None)


@pytest.fixture(scope="module")
def resnet() -> Adapter:
    return load_model("bundled:cifar10-resnet")


def pictures(count: int = 3, size: int = 12, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, size, size, dtype=dtype, generator=torch.Generator().manual_seed(1))


def off(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest number wanted."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def plain(model: Adapter, image: Tensor, surrogate: str, live: str, distance: str) -> tuple[Tensor, Tensor]:
    """The score of one batch by its mean loss, and the norm, straight from the definition."""
    layer = "body" if surrogate == "features" else "outputs"

    def read(x: Tensor) -> Tensor:
        seen = model.features(x, [layer])[layer]
        return {2: lambda s: s, 3: lambda s: s.mean(1), 4: lambda s: s.mean((2, 3))}[seen.ndim](seen)

    x, theta = image.clone().requires_grad_(), list(model.module.parameters())
    frozen = [value.requires_grad_(False) for value in theta]
    stopped = read(x if live == "augmented" else x.flip(-1))
    for value in frozen:
        value.requires_grad_()
    z = read(x.flip(-1) if live == "augmented" else x)
    if surrogate == "kl":
        p = stopped.softmax(1)
        loss = (p * (p.log() - z.log_softmax(1))).sum(1)
    elif surrogate == "pseudo-label":
        loss = F.cross_entropy(z, stopped.argmax(1), reduction="none")
    else:
        loss = 0.5 * (stopped - z).square().sum(1)
    g = torch.autograd.grad(loss.mean(), theta, create_graph=True, allow_unused=True, materialize_grads=True)
    g, theta = torch.cat([part.flatten() for part in g]), torch.cat([value.detach().flatten() for value in theta])
    norm = (g @ g + 1e-12).sqrt()
    d = {"norm": lambda: norm, "log": lambda: norm.log(), "angle": lambda: 1 + g @ theta / (norm * theta.norm())}
    return -torch.autograd.grad(d[distance](), x)[0], g.detach().norm()


@pytest.mark.parametrize("surrogate", ["logits", "kl", "pseudo-label", "features"])
def test_it_is_the_definition(model: Adapter, surrogate: str) -> None:
    image = pictures(2)
    for live, distance in product(("augmented", "original"), DISTANCES):
        with sdpa_kernel(SDPBackend.MATH):
            each = [plain(model, picture[None], surrogate, live, distance) for picture in image]
            wanted, length = plain(model, image, surrogate, live, distance)
        score, norm = dsf_score(model, image, surrogate, live=live, distance=distance)
        assert off(score, torch.cat([s for s, _ in each])) < 1e-9
        assert off(norm, torch.stack([n for _, n in each])) < 1e-10
        together, norm = dsf_score(model, image, surrogate, per="batch", live=live, distance=distance)
        assert off(together, wanted) < 1e-9
        assert off(norm, length.expand(2)) < 1e-10


def test_the_exact_engines_agree_and_the_difference_converges_with_the_square_of_epsilon(model: Adapter) -> None:
    image, several = pictures(), ("flip", "roll", "noise", "crop")
    for per, distance, chunk in (("image", "norm", None), ("image", "log", 1), ("batch", "angle", None)):
        options = {"per": per, "augmentation": several, "distance": distance, "chunk": chunk}
        exact = dsf_score(model, image, engine="double_backward", **options)[0]
        assert off(dsf_score(model, image, engine="jvp", **options)[0], exact) < 1e-12
        errors = [
            off(dsf_score(model, image, engine="difference", epsilon=epsilon, **options)[0], exact)
            for epsilon in (2e-4, 1e-4)
        ]
        assert errors[0] < 1e-4
        assert math.isclose(errors[0] / errors[1], 4, rel_tol=0.05)


def test_it_is_minus_the_slope_of_the_norm(smooth: Adapter) -> None:
    image = pictures(2)
    score, _ = dsf_score(smooth, image)
    for seed in range(3):
        along = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        up, down = (dsf_score(smooth, image + h * along)[1] for h in (1e-5, -1e-5))
        assert off((score * along).sum((1, 2, 3)), -(up - down) / 2e-5) < 1e-6


@pytest.mark.parametrize("engine", [*EXACT, "difference"])
def test_a_picture_does_not_depend_on_its_batch_or_the_chunk(resnet: Adapter, engine: str) -> None:
    image, seeds = pictures(3, 32, torch.float32), (3, 1, 4)
    options = {"engine": engine, "augmentation": "roll", "t": 0.5}
    score, norm = dsf_score(resnet, image, draws=Draws(seeds), chunk=2, **options)
    # a kink of ReLU may fall on either side of rounding, between the two ends of the difference
    tolerance = 1e-5 if engine in EXACT else 1e-2
    for chunk in (None, 1):
        alone = dsf_score(resnet, image[1:], draws=Draws(seeds[1:]), chunk=chunk, **options)
        assert off(alone[0], score[1:]) < tolerance
        assert off(alone[1], norm[1:]) < 1e-5


@pytest.mark.parametrize("engine", [*EXACT, "difference"])
def test_pictures_without_a_gradient_have_the_score_zero(resnet: Adapter, engine: str) -> None:
    small = adapter(double=False)
    for model, size, distances in ((small, 12, DISTANCES), (resnet, 32, ("norm",))):
        half = pictures(1, size, torch.float32)[..., : size // 2]
        image = torch.cat([torch.full((1, 3, size, size), 0.3), torch.cat([half, half.flip(-1)], -1)])
        for distance, chunk in product(distances, (None, 1)):
            score, norm = dsf_score(model, image, engine=engine, distance=distance, chunk=chunk)
            assert torch.equal(score, torch.zeros_like(image))
            assert torch.equal(norm, torch.zeros(2))


# ---- models as they come -------------------------------------------------------------------------------------------


def backends() -> tuple[bool, ...]:
    b = torch.backends.cuda
    return b.flash_sdp_enabled(), b.mem_efficient_sdp_enabled(), b.math_sdp_enabled(), b.cudnn_sdp_enabled()


def test_fused_attention_is_switched_off_for_the_exact_engines_only() -> None:
    model, image, before = adapter(Attending, double=False), pictures(dtype=torch.float32), backends()
    exact = dsf_score(model, image)[0]
    assert off(dsf_score(model, image, engine="jvp")[0], exact) < 1e-5
    assert backends() == before
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # there is no other way left
        for chunk in (None, 1):
            assert off(dsf_score(model, image, engine="difference", chunk=chunk)[0], exact) < 1e-2
    assert backends() == before


def test_convolutions_of_a_gpu_are_in_float32_and_the_switch_is_left_as_it_was() -> None:
    kept = torch.backends.cudnn.allow_tf32
    for was in (True, False):
        torch.backends.cudnn.allow_tf32 = was
        with full_precision(torch.device("cuda")):
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32 is was
    torch.backends.cudnn.allow_tf32 = kept


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"residual": "held", "augmentation": "crop+colour+flip", "copies": 2},
        {"per": "batch", "batch_norm": "train"},
        {"direction": "random"},
        {"engine": "jvp", "residual": "random"},
    ],
)
def test_the_score_of_a_gpu_is_that_of_the_cpu(options: dict[str, Any]) -> None:
    image, found = pictures(3, 32, torch.float32), []
    for device in ("cpu", "cuda"):
        model = load_model("bundled:cifar10-resnet", device=device)
        found.append(dsf_score(model, image.to(device), draws=Draws(range(3)), t=0.5, **options))
    for cpu, gpu in zip(*found, strict=True):
        assert off(gpu.cpu(), cpu) < 1e-3


def test_the_difference_runs_in_half_precision() -> None:
    exact = dsf_score(adapter(Attending, double=False), pictures(dtype=torch.float32))[0]
    half = dsf_score(adapter(Attending, double=False, dtype="bf16"), pictures(dtype=torch.float32), engine="difference")
    assert half[0].dtype == torch.float32
    assert F.cosine_similarity(half[0].flatten(1), exact.flatten(1)).min() > 0.8


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_the_difference_runs_on_a_compiled_module() -> None:
    model, image = adapter(Attending, double=False), pictures(2, dtype=torch.float32)
    compiled = Adapter(torch.compile(model.module, backend="eager"), replace(SPEC, feature_layer=None))
    wanted = dsf_score(model, image, engine="difference", chunk=1)[0]
    assert off(dsf_score(compiled, image, engine="difference", chunk=1)[0], wanted) < 1e-2


@pytest.mark.parametrize("groups", [2, 6])
def test_a_picture_alone_has_its_grouped_convolutions_written_out_and_the_same_score(groups: int) -> None:
    def body() -> nn.Module:
        layers = [nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 3, (2, 1), 2, (1, 2), groups=groups)]
        return nn.Sequential(*layers, nn.Tanh(), nn.Conv2d(6, 6, 1), nn.Tanh())

    model, image = adapter(body), pictures(2)
    for per, chunk, part in (("image", 1, image), ("batch", None, image[:1])):
        score, norm = dsf_score(model, part, per=per, chunk=chunk)
        scores, norms = zip(*(plain(model, x[None], "logits", "augmented", "norm") for x in part), strict=True)
        assert off(score, torch.cat(scores)) < 1e-9
        assert off(norm, torch.stack(norms)) < 1e-10
    x = pictures(1).repeat(1, 2, 1, 1)
    w = torch.randn(6, 6 // groups, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernels = {1: w.repeat(1, groups, 1, 1).requires_grad_(), groups: w.requires_grad_()}
    for alone, wanted in ((True, {groups}), (False, {1, groups})):
        with ENGINES["double_backward"].model(alone):
            outputs = {count: F.conv2d(x, kernel, groups=count) for count, kernel in kernels.items()}
        assert {count for count, y in outputs.items() if "_Convolution" in y.grad_fn.name()} == wanted


class Once(nn.Module):
    """A body with one derivative."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: object, dy: Tensor) -> Tensor:
            return 2 * dy

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.Function.apply(self.mix(x)).tanh()


def state(module: nn.Module) -> list[object]:
    named = [*module.named_parameters(), *module.named_buffers()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    flags = [(name, id(value), value.requires_grad, value.grad, value._version) for name, value in named]
    return [hooks, flags, [m.training for m in module.modules()]]


def test_the_module_is_left_as_it_was_after_an_error_too() -> None:
    for model, engines in ((adapter(), (*EXACT, "difference")), (adapter(Once), ("difference",))):
        model.module.head.weight.requires_grad_(False)
        values = {name: value.clone() for name, value in model.module.state_dict().items()}
        before, image = state(model.module), pictures()
        for engine, surrogate in product(engines, ("logits", "features")):
            assert not dsf_score(model, image, surrogate, engine)[0].requires_grad
        if engines == ("difference",):
            for engine in EXACT:
                with pytest.raises(UserError, match=r'^dsf: engine=.* type engine="difference"$'):
                    dsf_score(model, image, engine=engine)
        assert not image.requires_grad
        assert state(model.module) == before
        assert all(torch.equal(value, values[name]) for name, value in model.module.state_dict().items())


def test_replaced_parameters_count_for_one_call(smooth: Adapter) -> None:
    image, theta = pictures(), smooth.parameters()
    moved = {"head.weight": (2 * theta["head.weight"]).requires_grad_()}
    before = smooth.outputs(image)
    after = smooth.features_with(moved, image, ["outputs"])["outputs"]
    bias = theta["head.bias"]
    bias = bias + theta["offsets.0"] + theta["offsets.1"]
    assert (after - bias - 2 * (before - bias)).abs().max() < 1e-13
    assert torch.autograd.grad(after.sum(), moved["head.weight"])[0].abs().max() > 0
    assert torch.equal(smooth.outputs(image), before)
    assert not any(value.requires_grad for value in theta.values())
    assert isinstance(smooth, TrainedModel)
    assert isinstance(smooth, VisionModel)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2), (2, 4, 9, 7)),
        (nn.Conv2d(4, 4, 3, padding="same", bias=False), (2, 4, 6, 6)),
        (nn.LayerNorm((3, 5)), (2, 4, 3, 5)),
        (nn.LayerNorm(5, elementwise_affine=False), (2, 5)),
        (nn.GroupNorm(2, 4), (2, 4, 3, 5)),
        (nn.InstanceNorm2d(4, affine=True), (2, 4, 3, 5)),
        (nn.InstanceNorm2d(4, track_running_stats=True).eval(), (2, 4, 3, 5)),
    ],
)
def test_layers_by_formula_are_the_layers(module: nn.Module, shape: tuple[int, ...]) -> None:
    module, x = module.double(), torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    for table in (REVERSE_OVER_FORWARD, REVERSE_OVER_REVERSE):
        with ReplacedFunctions(table):
            found = module(x)
        at = [x, *module.parameters()]
        pairs = [torch.autograd.grad(y.sin().sum(), at, create_graph=True) for y in (module(x), found)]
        seconds = [torch.autograd.grad(sum(g.square().sum() for g in gs), at) for gs in pairs]
        for wanted, got in zip((module(x), *pairs[0], *seconds[0]), (found, *pairs[1], *seconds[1]), strict=True):
            assert (got - wanted).abs().max() < 1e-11


# ---- options -------------------------------------------------------------------------------------------------------


def test_theta_may_be_some_of_the_parameters(smooth: Adapter) -> None:
    image = pictures()
    head = dsf_score(smooth, image, parameters="head.*")
    names = list(smooth.parameters())
    for engine, pattern in product((*EXACT, "difference"), ("head.*", r"^head\.(weight|bias)$")):
        assert off(dsf_score(smooth, image, engine=engine, parameters=pattern)[1], head[1]) < 1e-12
    assert off(dsf_score(smooth, image, engine="jvp", parameters="head.*")[0], head[0]) < 1e-12
    squares = sum(dsf_score(smooth, image, parameters=name)[1].square() for name in names)
    assert off(squares, dsf_score(smooth, image)[1].square()) < 1e-12


def test_several_views_are_averaged_and_an_augmentation_may_be_given(smooth: Adapter) -> None:
    image, draws = pictures(), Draws((7, 8, 9))
    both = dsf_score(smooth, image, augmentation=[Roll(2), Noise(0.1)], draws=draws, t=0.25, parameters="head.bias")
    assert (
        off(
            dsf_score(smooth, image, augmentation=[Roll(2)] * 2, draws=draws)[0],
            dsf_score(smooth, image, augmentation=Roll(2), draws=draws)[0],
        )
        < 1e-12
    )
    later = dsf_score(smooth, image, augmentation=[Roll(2), Noise(0.1)], draws=draws, t=0.5, parameters="head.bias")
    assert off(later[0], both[0]) > 1e-3


def test_it_is_a_field_that_adds_and_counts_time(smooth: Adapter) -> None:
    image, t, draws = pictures(), torch.full((3,), 0.25), Draws((7, 8, 9))
    score, norm = dsf_score(smooth, image, "kl", augmentation="shift", draws=draws, t=0.25)
    field = dsf(smooth, draws, surrogate="kl", augmentation="shift")
    smoothness = toward(total_variation(), draws)
    with torch.no_grad():
        total = field + 2.0 * smoothness
        assert off(total(image, t), score + 2 * smoothness(image, t)) < 1e-14
    assert off(total.stats["dsf norm"], norm) < 1e-14
    assert set(total.stats) == {"dsf norm", "total variation"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"surrogate": "logit"}, 'did you mean "logits"'),
        ({"engine": "triple"}, "double_backward, jvp, difference"),
        ({"per": "pixel"}, "image, batch"),
        ({"live": "both"}, "augmented, original"),
        ({"distance": "nor"}, '"norm"'),
        ({"augmentation": "flop"}, '"flip"'),
        ({"augmentation": ()}, 'augmentation="flip"'),
        ({"augmentation": ("flip", RandomCrop(8, 8))}, "12x12, 8x8"),
        ({"parameters": "heads.weight"}, "head.weight"),
        ({"parameters": "*.wait"}, "nearest are"),
        ({"parameters": "head.*", "surrogate": "features"}, "do not reach"),
        ({"parameters": "head.*", "surrogate": "features", "engine": "difference"}, "do not reach"),
        ({"chunk": 0}, "chunk=0"),
        ({"epsilon": -1.0, "engine": "difference"}, "epsilon=-1.0"),
        ({"epsilon": 1e-3}, 'engine="difference"'),
        ({"draws": Draws((1, 2))}, "2 draws for 3 pictures"),
    ],
)
def test_a_mistake_is_one_line(smooth: Adapter, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        dsf_score(smooth, pictures(), **options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_scored_says_so(smooth: Adapter) -> None:
    with pytest.raises(UserError, match="load_model"):
        dsf_score(smooth.module, pictures())
    padded = nn.Sequential(smooth.module, nn.ConstantPad1d((0, 1), 0.0))
    headless = Adapter(padded, replace(SPEC, classes=SPEC.count + 1, feature_layer=None))
    with pytest.raises(UserError, match="feature_layer"):
        dsf_score(headless, pictures(), "features")
    with pytest.raises(UserError, match=r"\(N, 3, H, W\)"):
        dsf_score(smooth, pictures()[0])
    with pytest.raises(UserError, match='did you mean "surrogate"'):
        dsf(smooth, Draws((1,)), surogate="kl")
    with pytest.raises(UserError, match="cannot take 16x16 pictures"):
        dsf_score(load_model("bundled:cifar10-attention"), pictures(2, 16, torch.float32))
