"""The ascent: the length of its steps, the optimisers against torch.optim, exact resume, pictures that do not touch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from bothways.configs import validated
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.synthesis.ascent import Ascent, ascend, step_length
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.das import toward
from bothways.synthesis.fields import Field, WhiteNoise
from bothways.synthesis.objectives.classes import class_logit
from bothways.synthesis.objectives.variation import total_variation
from bothways.synthesis.parameterizations.fourier import Fourier
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.parameterizations.stack import ImageStack
from bothways.synthesis.views import Views
from bothways.synthesis.views.noise import Noise
from bothways.synthesis.views.roll import Roll
from bothways.types import ModelSpec, Parameterization, RunError, UserError

SEEDS = (11, 12, 13, 14)
LEVELS = [1, 2, 4, 8]


def start(count: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    return 0.2 + 0.6 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=dtype)[:count]


HELD: dict[str, Callable[[Tensor], Parameterization]] = {
    "pixels": lambda x: Pixels(x, "tanh"),
    "clamped pixels": lambda x: Pixels(x, "clamp"),
    "fourier": lambda x: Fourier(x),
    "stack as operator": lambda x: ImageStack(x, LEVELS, engine="operator"),
    "explicit stack": lambda x: ImageStack(x, LEVELS, engine="explicit"),
    "masked": lambda x: Masked(Fourier(x), x, torch.arange(64).view(1, 1, 8, 8) > 20),
}
OPTIMIZERS = ("sgd", "momentum", "adam")
EVERY_WAY = [(h, o) for h in HELD for o in OPTIMIZERS if (h, o) != ("stack as operator", "adam")]  # refused: see below


def canvas(parameterization: Parameterization) -> Tensor:
    return parameterization.canvas([p.detach().clone() for p in parameterization.parameters()])


def pull(x: Tensor, t: Tensor) -> Tensor:
    """A field that depends on the picture and on the moment, each picture and each pixel otherwise."""
    return torch.sin(9 * x + 5 * t.view(-1, 1, 1, 1)) - 0.3


def followed(parameterization: Parameterization, settings: AscentConfig, field: Field | None = None) -> Ascent:
    ascent = Ascent(parameterization, settings)
    for _ in ascend(field or pull, ascent, Draws(SEEDS[: len(parameterization.image())])):
        pass
    return ascent


@pytest.mark.parametrize(("held", "optimizer"), EVERY_WAY)
def test_steps_have_exactly_the_stated_rms_on_each_pictures_canvas(held: str, optimizer: str) -> None:
    settings = AscentConfig(steps=5, optimizer=optimizer, rms=0.02, schedule="cosine", final=0.1)
    ascent = Ascent(HELD[held](start(dtype=torch.float64)), settings)
    before = canvas(ascent.parameterization)
    for step, frame in enumerate(ascend(pull, ascent, Draws(SEEDS))):
        after = canvas(ascent.parameterization)
        rms = (after - before).square().mean((1, 2, 3)).sqrt()
        assert (rms / (0.02 * step_length(step, settings)) - 1).abs().max() < 1e-9
        assert frame.step == step + 1
        assert frame.t == (step + 1) / 5
        before = after


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("scale", [1e-25, 1e-9, 1e4])
def test_the_scale_of_the_gradient_does_not_matter(optimizer: str, scale: float) -> None:
    settings = AscentConfig(steps=12, optimizer=optimizer, rms=0.1)
    wanted = followed(Pixels(start(), "tanh"), settings).parameterization.image()
    found = followed(Pixels(start(), "tanh"), settings, lambda x, t: scale * pull(x, t)).parameterization.image()
    assert (found - wanted).abs().max() < 1e-5


def test_no_direction_is_no_step() -> None:
    for held in HELD.values():
        ascent = followed(held(start()), AscentConfig(steps=3), lambda x, t: torch.zeros_like(x))
        assert canvas(ascent.parameterization).abs().max() == 0


@pytest.mark.parametrize(
    ("optimizer", "torchs"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.05)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.05)),
    ],
)
@pytest.mark.parametrize("held", ["pixels", "fourier", "explicit stack"])
def test_a_plain_rate_is_torchs_own_optimiser(
    held: str, optimizer: str, torchs: Callable[[list[Tensor]], torch.optim.Optimizer]
) -> None:
    by_hand = HELD[held](start(dtype=torch.float64))
    walker = torchs(by_hand.parameters())
    for step in range(6):
        walker.zero_grad()
        image = by_hand.image()
        (-image * pull(image.detach(), torch.full((4,), step / 6))).sum().backward()
        walker.step()
    ascent = followed(
        HELD[held](start(dtype=torch.float64)),
        AscentConfig(steps=6, optimizer=optimizer, rate=0.05, schedule="constant"),
    )
    assert (ascent.parameterization.image() - by_hand.image()).abs().max() < 1e-13


@pytest.mark.parametrize("held", ["pixels", "fourier"])
def test_decay_is_that_of_torchs_adamw(held: str) -> None:
    by_hand = HELD[held](start(dtype=torch.float64))
    walker = torch.optim.AdamW(by_hand.parameters(), lr=0.05, weight_decay=2.0)  # it removes lr * weight_decay
    for step in range(6):
        walker.zero_grad()
        image = by_hand.image()
        (-image * pull(image.detach(), torch.full((4,), step / 6))).sum().backward()
        walker.step()
    settings = AscentConfig(steps=6, optimizer="adam", rate=0.05, schedule="constant", decay=0.1)
    ascent = followed(HELD[held](start(dtype=torch.float64)), settings)
    assert (ascent.parameterization.image() - by_hand.image()).abs().max() < 1e-13


def test_a_plain_rate_follows_its_schedule() -> None:
    raw, first = torch.zeros(4, 3, 8, 8, dtype=torch.float64), start(dtype=torch.float64)
    for step in range(4):
        raw = raw + 0.001 * (1 - step / 3) * pull(first + raw, torch.full((4,), step / 4))
    ascent = followed(Pixels(first, "clamp"), AscentConfig(steps=4, rate=0.001, schedule="linear"))
    assert (canvas(ascent.parameterization) - raw).abs().max() < 1e-14


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_begin_at_1_end_at_final_and_fall(schedule: str) -> None:
    settings = AscentConfig(steps=11, schedule=schedule, final=0.2)
    lengths = [step_length(step, settings) for step in range(11)]
    assert lengths[0] == 1
    assert abs(lengths[-1] - 0.2) < 1e-15
    assert abs(lengths[5] - 0.6) < 1e-15
    assert all(a > b for a, b in pairwise(lengths))
    assert step_length(0, AscentConfig(steps=1, schedule=schedule)) == 1


def test_a_constant_schedule_is_constant() -> None:
    assert {step_length(step, AscentConfig(steps=7, schedule="constant")) for step in range(7)} == {1.0}


@pytest.mark.parametrize(("held", "optimizer"), EVERY_WAY)
def test_a_resume_is_bit_identical(held: str, optimizer: str) -> None:
    settings, draws = AscentConfig(steps=9, optimizer=optimizer, rms=0.03, step_noise=0.4), Draws(SEEDS)
    whole = Ascent(HELD[held](start()), settings)
    saved, images = {}, []
    for frame in ascend(pull, whole, draws):
        images.append(frame.image)
        if frame.step == 4:
            saved = whole.tensors()  # kept while the run goes on
    resumed = Ascent(HELD[held](start()), settings)
    resumed.load(saved, 4)
    again = [frame.image for frame in ascend(pull, resumed, Draws(SEEDS))]
    assert len(again) == 5
    assert all(torch.equal(one, other) for one, other in zip(again, images[4:], strict=True))
    assert resumed.step == 9


def test_step_noise_has_its_rms_in_steps_and_belongs_to_the_picture() -> None:
    quiet, loud = (followed(Pixels(start()), AscentConfig(steps=1, rms=0.02, step_noise=n)) for n in (0.0, 0.5))
    difference = canvas(loud.parameterization) - canvas(quiet.parameterization)
    assert (difference.square().mean((1, 2, 3)).sqrt() - 0.01).abs().max() < 1e-7
    alone = followed(Pixels(start(1)), AscentConfig(steps=1, rms=0.02, step_noise=0.5))
    assert (canvas(alone.parameterization) - canvas(loud.parameterization)[:1]).abs().max() < 1e-7


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_field_that_is_not_finite_stops_before_the_step(bad: float, optimizer: str) -> None:
    def breaking(x: Tensor, t: Tensor) -> Tensor:
        dx = pull(x, t)
        if t[0] > 0.25:
            dx[2, 0, 0, 0] = bad
        return dx

    ascent = Ascent(Pixels(start()), AscentConfig(steps=8, optimizer=optimizer))
    frames = ascend(breaking, ascent, Draws(SEEDS))
    last, kept = [next(frames) for _ in range(3)][-1].image, ascent.tensors()
    with pytest.raises(RunError, match="step 4"):
        next(frames)
    assert ascent.step == 3
    assert torch.equal(ascent.parameterization.image(), last)
    assert all(torch.equal(value, kept[key]) for key, value in ascent.tensors().items())


def test_adam_on_the_stack_as_an_operator_is_refused() -> None:
    stack = HELD["stack as operator"](start())
    for held in (stack, Masked(stack, start(), torch.ones(1, 1, 8, 8))):
        with pytest.raises(UserError, match="engine=explicit"):
            Ascent(held, AscentConfig(steps=3, optimizer="adam"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "lbfgs"}, "optimizer='lbfgs': .*'sgd', 'momentum' or 'adam'"),
        ({"schedule": "linaer"}, "schedule 'linaer' is not known; type linear"),
        ({"steps": -1}, "steps=-1: "),
    ],
)
def test_settings_that_do_not_exist(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        validated(AscentConfig, {"steps": 3, **settings})


def test_no_steps_yield_nothing_and_change_nothing() -> None:
    ascent = Ascent(Pixels(start()), AscentConfig(steps=0))
    assert list(ascend(pull, ascent, Draws(SEEDS))) == []
    assert torch.equal(ascent.parameterization.image(), start())


@pytest.mark.parametrize("held", ["pixels", "fourier", "stack as operator", "explicit stack"])
@pytest.mark.parametrize("normalize", [False, True])
def test_a_picture_alone_and_in_a_batch_agree(held: str, normalize: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1))
    model = Adapter(net, ModelSpec(8, (0.5,) * 3, (0.25,) * 3, 4))
    labels, settings = torch.tensor([0, 3, 1, 2]), AscentConfig(steps=6, optimizer="momentum", rms=0.05, step_noise=0.1)
    views = Views(3, [Roll(1), Noise(0.05)])

    def drawn(which: slice) -> Tensor:
        draws = Draws(SEEDS[which])
        field = toward(class_logit(model, labels[which]) + total_variation(), draws, views, normalize=normalize)
        ascent = Ascent(HELD[held](start()[which]), settings)
        return list(ascend(field, ascent, draws))[-1].image

    together = drawn(slice(0, 4))
    for i in range(4):
        assert (drawn(slice(i, i + 1)) - together[i]).abs().max() < 1e-5


def test_frames_carry_the_means_of_what_the_field_measured_and_a_caller_may_stop() -> None:
    class Measured(WhiteNoise):
        def __call__(self, x: Tensor, t: Tensor) -> Tensor:
            self.stats = {"moment": t, "which": torch.arange(len(x))}
            return super().__call__(x, t)

    ascent = Ascent(Pixels(start()), AscentConfig(steps=4))
    frames = ascend(Measured(Draws(SEEDS)), ascent, Draws(SEEDS))
    assert next(frames).stats == {"moment": 0.0, "which": 1.5}
    second = next(frames)
    assert second.stats == {"moment": 0.25, "which": 1.5}
    assert not second.image.requires_grad
    frames.close()
    assert ascent.step == 2
    assert torch.equal(ascent.parameterization.image(), second.image)
