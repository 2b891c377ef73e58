"""Flows behind every kind of address, against the libraries they come from; what does not fit is said in one line."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from bothways import ModelSpec, UserError, load_classifier, load_flow, load_model
from bothways.models import cards
from bothways.models.catalogue import build_network
from bothways.models.libraries import hub
from bothways.models.nets.unet import UNet
from bothways.numerics.draws import generator
from bothways.numerics.solvers import grid, solver_of, solver_states
from zoo import need, seeded

HALF = (0.5, 0.5, 0.5)
TINY = {"width": 16, "multiples": [1, 2], "blocks": 1, "attention": [2], "heads": 2}
FACTS = {"size": 8, "mean": HALF, "std": HALF, "classes": 0, "path": "gvp", "time_scale": 1000.0}
SPEC = ModelSpec(8, HALF, HALF, 0, path="linear", time_scale=1000.0)


def normal(*shape: int, purpose: str = "x") -> Tensor:
    return torch.randn(*shape, generator=generator(7, purpose=purpose))


def refused(*arguments: Any, load: Callable[..., Any] = load_flow, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_card(folder: Path, name: str = "flow", **changes: Any) -> nn.Module:
    network = seeded(lambda: build_network("unet", **TINY))
    facts = {"name": name, "network": {"name": "unet", **TINY}, "spec": FACTS} | changes
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(facts))
    save_file({key: value.half() for key, value in network.state_dict().items()}, folder / f"{name}.safetensors")
    network.load_state_dict({key: value.half().float() for key, value in network.state_dict().items()})
    return network


# ---- cards, files and live modules ---------------------------------------------------------------------------------


def test_the_folder_of_a_pretrained_flow_and_its_card(tmp_path: Path) -> None:
    network, x, t = write_card(tmp_path / "run"), normal(2, 3, 8, 8), torch.tensor([0.2, 0.7])
    for address in (str(tmp_path / "run"), tmp_path / "run", tmp_path / "run" / "flow.json"):
        flow = load_flow(address)
        assert flow.name == str(address)
        assert not flow.training
        assert (flow.spec.path, flow.spec.time_scale) == ("gvp", 1000.0)
        assert (flow(x, t) - network(x, 1000 * t)).abs().max() < 1e-5
    other = write_card(tmp_path / "other")
    save_file(
        {key: torch.zeros_like(value) for key, value in other.state_dict().items()}, tmp_path / "zero.safetensors"
    )
    (tmp_path / "other" / "flow.safetensors").unlink()
    assert "weights" in refused(tmp_path / "other")
    assert load_flow(tmp_path / "other", weights=tmp_path / "zero.safetensors")(x, t).abs().max() == 0
    assert "bothways pretrain" in refused(tmp_path / "none")
    assert "has no flow.json" in refused(tmp_path)
    assert "is the address of a flow; type bothways sample, walk or diagnose for it (in Python load_flow)" in refused(
        tmp_path / "run", load=load_model
    )
    assert "its spec has a path; type bothways sample" in refused(tmp_path / "run" / "flow.json", load=load_model)


def test_a_bundled_flow_is_no_classifier_and_the_reverse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_card(tmp_path, "digits")
    plain = {"name": "plain", "classes": 2, "channels": [4], "depths": [1]}
    (tmp_path / "net.json").write_text(
        json.dumps({"name": "net", "network": plain, "spec": {**FACTS, "path": None, "classes": 2}})
    )
    save_file(build_network(**plain).state_dict(), tmp_path / "net.safetensors")
    monkeypatch.setattr(cards, "BUNDLED", tmp_path)
    assert cards.bundled_names() == ["net"]
    assert cards.bundled_flows() == ["digits"]
    assert load_flow("bundled:digits").spec.path == "gvp"
    assert "type bothways sample" in refused("bundled:digits", load=load_model)
    assert "is a classifier, since its spec has classes and no path; type bothways generate" in refused("bundled:net")
    assert "type bundled:digits" in refused("bundled:digit")
    assert "bundled:digits" in refused("digits")


def test_a_users_file_and_a_live_module(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom bothways import ModelSpec\n"
        "class Net(torch.nn.Module):\n    def forward(self, x, time):\n        return x * time[:, None, None, None]\n"
        "def build(path='linear', size=8):\n"
        "    return Net(), ModelSpec(size, (.5,) * 3, (.5,) * 3, 0, path=path, time_scale=10)\n"
        "def classifier():\n    return build(None)\n"
        "def unknown():\n    return build('straight')\n"
    )
    x, t = normal(2, 3, 8, 8), torch.tensor([0.2, 0.7])
    flow = load_flow(f"{tmp_path}/mine.py:build")
    assert (flow(x, t) - x * torch.tensor([2.0, 7.0])[:, None, None, None]).abs().max() < 1e-5
    assert load_flow(flow) is flow
    assert "loaded already" in refused(flow, SPEC)
    assert "type bothways generate" in refused(f"{tmp_path}/mine.py:classifier")
    assert "path 'straight' is not known" in refused(f"{tmp_path}/mine.py:unknown")
    assert "mine.py:FUNCTION" in refused(f"{tmp_path}/mine.py")
    assert "is a flow" in refused(f"{tmp_path}/mine.py:build", load=load_model)
    assert load_flow(flow.network, SPEC).spec is SPEC
    assert 'path="linear"' in refused(flow.network)
    assert "type bothways generate" in refused("timm:resnet18")
    assert "is the address of a flow" in refused("torchcfm:x.pt", load=load_model)
    assert "device 'tpu'" in refused(flow.network, SPEC, device="tpu")
    assert "dtype 'half'" in refused(flow.network, SPEC, dtype="half")


class Returns(nn.Module):
    def __init__(self, answer: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, time: Tensor) -> Any:
        return self.answer(x)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Returns(lambda x: (x, x)), "returns a tuple for x (2, 3, 8, 8)"),
        (Returns(lambda x: torch.cat([x, x], 1)), "returns a tensor (2, 6, 8, 8) for x"),
        (Returns(lambda x: {"sample": x}), "returns a dict"),
        (nn.Conv2d(3, 3, 1), "takes 2 positional arguments but 3 were given"),
        (seeded(lambda: UNet(1, 16, (1, 2), 1, ())), 'size or channel_order ("grey" for one channel)'),
        (seeded(lambda: UNet(3, 16, (1, 1, 1, 1, 1), 1, ())), "sides that are multiples of 16"),
    ],
)
def test_a_module_that_gives_no_velocity(module: nn.Module, said: str) -> None:
    assert said in refused(module, SPEC)


# ---- diffusers -----------------------------------------------------------------------------------------------------

SCHEDULES = {
    "epsilon": {"beta_schedule": "linear"},
    "v_prediction": {"beta_schedule": "squaredcos_cap_v2"},
    "sample": {"beta_schedule": "scaled_linear"},
}


def unet2d(diffusers: Any, **changes: Any) -> Any:
    options = {
        "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "block_out_channels": (8, 16),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4, "attention_head_dim": 8,
    }  # fmt: skip
    return seeded(lambda: diffusers.UNet2DModel(**options | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., tuple[Path, Any, Any]]:
    """Save a small network and its scheduler as diffusers does -> the folder, and both."""
    diffusers = need_diffusers()

    def save(prediction: str = "epsilon", piped: bool = True, kind: str = "DDPMScheduler", **options: Any) -> Any:
        given = {"num_train_timesteps": 100, "prediction_type": prediction, **SCHEDULES[prediction], **options}
        scheduler, network = getattr(diffusers, kind)(**given), unet2d(diffusers)
        place = tmp_path / f"{prediction}-{piped}"
        network.save_pretrained(place / "unet" if piped else place)
        scheduler.save_pretrained(place / "scheduler" if piped else place)
        return place, network, scheduler

    return save


def need_diffusers() -> Any:
    need("vit")  # diffusers imports transformers, which minds a torchvision that does not fit
    return pytest.importorskip("diffusers")


def levels(scheduler: Any, k: Tensor) -> tuple[Tensor, Tensor]:
    """a and s of levels k, (B,1,1,1) each, from the library's own table."""
    product = scheduler.alphas_cumprod.double()[k][:, None, None, None]
    return product.sqrt(), (1 - product).sqrt()


def ddim(diffusers: Any, scheduler: Any) -> Any:
    return diffusers.DDIMScheduler.from_config(
        scheduler.config, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading"
    )


@pytest.mark.parametrize("piped", [True, False])
@pytest.mark.parametrize("prediction", list(SCHEDULES))
def test_noise_and_picture_come_back_from_the_velocity_at_every_level(
    saved: Callable[..., Any], prediction: str, piped: bool
) -> None:
    """The 2x2 system x = a X + s e, v = a' X + s' e, against DDIM's own reading of the network's output."""
    place, network, scheduler = saved(prediction, piped)
    flow = load_flow(f"diffusers:{place}").double()
    assert (flow.spec.height, flow.spec.channel_order, flow.spec.mean) == (8, "RGB", HALF)
    k = torch.tensor([0, 1, 17, 50, 98, 99])
    x, t = normal(6, 3, 8, 8).double(), 1 - k.double() / 99
    a, s, da, ds = (weight[:, None, None, None] for weight in flow.path(t))
    wanted_a, wanted_s = levels(scheduler, k)
    assert max((a - wanted_a).abs().max(), (s - wanted_s).abs().max()) < 1e-6  # the library's table is of float32
    with torch.no_grad():
        said, v = network.double()(x, k.double()).sample, flow(x, t)
    clean = {
        "epsilon": (x - wanted_s * said) / wanted_a,
        "v_prediction": wanted_a * x - wanted_s * said,
        "sample": said,
    }[prediction]
    noise = (x - wanted_a * clean) / wanted_s
    determinant = a * ds - s * da
    found_clean, found_noise = (ds * x - s * v) / determinant, (a * v - da * x) / determinant
    assert (found_clean - clean).abs().max() < 1e-5
    assert (found_noise - noise).abs().max() < 1e-5
    # and one deterministic step of the library's own sampler, from those two
    sampler = ddim(need_diffusers(), scheduler)
    sampler.set_timesteps(100)
    for row in range(1, 6):
        stepped = sampler.step(said[row : row + 1], int(k[row]), x[row : row + 1]).prev_sample
        next_a, next_s = levels(scheduler, k[row : row + 1] - 1)
        ours = next_a * found_clean[row : row + 1] + next_s * found_noise[row : row + 1]
        assert (ours - stepped).abs().max() < 1e-4


def test_walking_approaches_ddim_as_steps_grow(saved: Callable[..., Any]) -> None:
    place, network, scheduler = saved(num_train_timesteps=1000)
    flow, sampler = load_flow(f"diffusers:{place}"), ddim(need_diffusers(), scheduler)
    start, apart = normal(1, 3, 8, 8), []
    for steps in (20, 50, 125):
        sampler.set_timesteps(steps)
        theirs, first = start, int(sampler.timesteps[0])
        with torch.no_grad():
            for k in sampler.timesteps:
                theirs = sampler.step(network(theirs, k).sample, int(k), theirs).prev_sample
            times = grid(1 - first / 999, 1.0, len(sampler.timesteps) - 1)
            *_, (ours,) = solver_states(flow, (start,), times, solver_of("euler"))
        apart.append((ours - theirs).abs().max().item() / theirs.abs().max().item())
    assert apart[1] < 0.6 * apart[0]
    assert apart[2] < 0.6 * apart[1]
    assert apart[2] < 0.1


def test_grey_half_weights_bf16_and_a_checkpoint_of_two_channels(saved: Callable[..., Any], tmp_path: Path) -> None:
    diffusers, (place, *_) = need_diffusers(), saved()
    network = unet2d(diffusers, in_channels=1, out_channels=1, sample_size=(8, 16))
    network.half().save_pretrained(place / "unet")
    flow, rough = load_flow(f"diffusers:{place}"), load_flow(f"diffusers:{place}", dtype="bf16")
    assert (flow.spec.channel_order, flow.spec.size) == ("grey", (8, 16))
    x, t = normal(2, 1, 8, 16), torch.tensor([0.31, 0.9])
    exact, near = flow(x, t), rough(x, t)
    assert exact.dtype == near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.05 * exact.abs().max()
    assert flow.code(torch.rand(2, 3, 8, 16)).shape == (2, 1, 8, 16)
    unet2d(diffusers, in_channels=4, out_channels=4).save_pretrained(place / "unet")
    assert "has 4 channels in and 4 out, not 1 or 3" in refused(f"diffusers:{place}")


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "is a UNet2DConditionModel"),
        ("unet/config.json", {"class_embed_type": "identity"}, "takes an embedding of a class from outside"),
        ("unet/config.json", {"time_embedding_type": "fourier"}, "has a fourier time embedding"),
        ("unet/config.json", {"sample_size": None}, "has no sample_size"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "predicts 'flow'"),
        ("scheduler/scheduler_config.json", {"_class_name": "ScoreSdeVeScheduler"}, "no levels of noise (ScoreSdeVe"),
        ("scheduler/scheduler_config.json", {"_class_name": "Mine"}, "no levels of noise (Mine)"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1, 1.0]}, "is pure noise"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, "codes of an autoencoder"),
    ],
)
def test_diffusion_models_of_other_kinds(
    saved: Callable[..., Any], file: str, changes: dict[str, Any], said: str
) -> None:
    place, *_ = saved()
    facts = json.loads((place / file).read_text()) if (place / file).exists() else {}
    (place / file).write_text(json.dumps(facts | changes))
    assert said in refused(f"diffusers:{place}")


def test_files_of_diffusers_that_are_missing_or_torn(saved: Callable[..., Any], tmp_path: Path) -> None:
    place, network, _ = saved()
    assert "leave spec= and weights= out" in refused(f"diffusers:{place}", SPEC)
    weights = place / "unet" / "diffusion_pytorch_model.safetensors"
    held = network.state_dict()
    save_file({key: value for key, value in held.items() if not key.startswith("conv_in")}, weights)
    assert "holds no conv_in" in refused(f"diffusers:{place}")
    weights.write_bytes(b"torn")
    assert "diffusion_pytorch_model.safetensors" in refused(f"diffusers:{place}")
    weights.unlink()
    torch.save(held, place / "unet" / "diffusion_pytorch_model.bin")  # a pickle is not read in its place
    assert "no diffusion_pytorch_model.safetensors in the folder" in refused(f"diffusers:{place}")
    (place / "scheduler" / "scheduler_config.json").unlink()
    assert "no scheduler_config.json in the folder" in refused(f"diffusers:{place}")
    assert "folder './none' does not exist" in refused("diffusers:./none")
    assert "has no name after the colon" in refused("diffusers:")


def test_a_repository_of_the_hub_is_read_from_the_cache(
    saved: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, *_ = saved()
    kept = tmp_path / "cache" / "models--somebody--flow"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("a" * 40)
    shutil.copytree(place, kept / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    x, t = normal(1, 3, 8, 8), torch.tensor([0.5])
    found, wanted = load_flow("diffusers:somebody/flow"), load_flow(f"diffusers:{place}")
    assert torch.equal(found(x, t), wanted(x, t))


def test_a_torchvision_of_another_torch_is_named(saved: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    place, *_ = saved()

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("Failed to import diffusers.models.unets.unet_2d")

    monkeypatch.setattr(need_diffusers().UNet2DModel, "load_config", fails)
    monkeypatch.setattr(hub, "torchvision_misfit", lambda: "torchvision does not fit")
    assert refused(f"diffusers:{place}") == "torchvision does not fit"


def test_a_repository_that_is_not_at_hand_and_a_library_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    need_diffusers()
    said = refused("diffusers:nobody/nothing")
    for part in ("flow 'diffusers:nobody/nothing': config.json", "type hf download nobody/nothing", "diffusers:FOLDER"):
        assert part in said
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert refused("diffusers:nobody/nothing") == (
        'the flow\'s address needs diffusers, which is not installed; type pip install "bothways[diffusers]"'
    )


# ---- torchcfm ------------------------------------------------------------------------------------------------------

CHANNELS, MULTIPLES = 128, (1, 2, 2, 2)  # of the CIFAR-10 example, two blocks a level, attention at half the size


def residual_shapes(name: str, entering: int, leaving: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.in_layers.0", (entering,)), (f"{name}.in_layers.2", (leaving, entering, 3, 3)))
    yield from ((f"{name}.emb_layers.1", (leaving, 512)), (f"{name}.out_layers.0", (leaving,)))
    yield f"{name}.out_layers.3", (leaving, leaving, 3, 3)
    if entering != leaving:
        yield f"{name}.skip_connection", (leaving, entering, 1, 1)


def attention_shapes(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from ((f"{name}.norm", (width,)), (f"{name}.qkv", (3 * width, width, 1)))
    yield f"{name}.proj_out", (width, width, 1)


def layout() -> Iterator[tuple[str, tuple[int, ...]]]:
    """(layer, shape of its weight) of the checkpoint, block after block as guided-diffusion numbers them."""
    yield from (("time_embed.0", (512, 128)), ("time_embed.2", (512, 512)), ("input_blocks.0.0", (128, 3, 3, 3)))
    number, present, kept = 1, CHANNELS, [CHANNELS]
    for level, multiple in enumerate(MULTIPLES):
        for _ in range(2):
            yield from residual_shapes(f"input_blocks.{number}.0", present, multiple * CHANNELS)
            present = multiple * CHANNELS
            if level == 1:
                yield from attention_shapes(f"input_blocks.{number}.1", present)
            number, kept = number + 1, [*kept, present]
        if level < 3:
            yield f"input_blocks.{number}.0.op", (present, present, 3, 3)
            number, kept = number + 1, [*kept, present]
    yield from residual_shapes("middle_block.0", present, present)
    yield from attention_shapes("middle_block.1", present)
    yield from residual_shapes("middle_block.2", present, present)
    number = 0
    for level, multiple in reversed(list(enumerate(MULTIPLES))):
        for block in range(3):
            yield from residual_shapes(f"output_blocks.{number}.0", present + kept.pop(), multiple * CHANNELS)
            present, after = multiple * CHANNELS, 1
            if level == 1:
                yield from attention_shapes(f"output_blocks.{number}.1", present)
                after = 2
            if level and block == 2:
                yield f"output_blocks.{number}.{after}.conv", (present, present, 3, 3)
            number += 1
    yield from (("out.0", (CHANNELS,)), ("out.2", (3, CHANNELS, 3, 3)))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    source, found = generator(3, purpose="weights"), {}
    for name, shape in layout():
        scale = 0.7 / math.sqrt(math.prod(shape[1:]))
        found[f"{name}.weight"] = torch.randn(shape, generator=source) * (scale if len(shape) > 1 else 1)
        found[f"{name}.bias"] = torch.randn(shape[:1], generator=source) * 0.1
    return found


@pytest.fixture(scope="module")
def checkpoint(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchcfm") / "cifar10.pt"
    held = {f"module.{key}": value for key, value in weights.items()}
    rest = {"sched": {"last_epoch": 1, "lr_lambdas": [None]}, "optim": {"state": {}, "param_groups": []}, "step": 7}
    torch.save({"net_model": {}, "ema_model": held, **rest}, path)
    return path


def plainly(held: dict[str, Tensor], x: Tensor, time: Tensor) -> Tensor:
    """That U-Net written out once more, by the names in the file alone."""

    def w(name: str) -> tuple[Tensor, Tensor]:
        return held[f"{name}.weight"], held[f"{name}.bias"]

    def residual(h: Tensor, name: str) -> Tensor:
        inner = F.conv2d(F.silu(F.group_norm(h, 32, *w(f"{name}.in_layers.0"))), *w(f"{name}.in_layers.2"), padding=1)
        inner = inner + F.linear(F.silu(moment), *w(f"{name}.emb_layers.1"))[:, :, None, None]
        inner = F.silu(F.group_norm(inner, 32, *w(f"{name}.out_layers.0")))
        skip = F.conv2d(h, *w(f"{name}.skip_connection")) if f"{name}.skip_connection.weight" in held else h
        return skip + F.conv2d(inner, *w(f"{name}.out_layers.3"), padding=1)

    def attention(h: Tensor, name: str) -> Tensor:
        flat = h.flatten(2)
        three = F.conv1d(F.group_norm(flat, 32, *w(f"{name}.norm")), *w(f"{name}.qkv"))
        heads = []
        for head in three.split(3 * 64, 1):
            query, key, value = head.split(64, 1)
            share = torch.softmax(torch.einsum("bct,bcs->bts", query, key) / 8, -1)
            heads.append(torch.einsum("bts,bcs->bct", share, value))
        return (flat + F.conv1d(torch.cat(heads, 1), *w(f"{name}.proj_out"))).view(h.shape)

    def block(h: Tensor, name: str) -> Tensor:
        parts = {key.split(".")[2] for key in held if key.startswith(f"{name}.")}
        for part in (f"{name}.{number}" for number in sorted(parts)):
            if f"{part}.qkv.weight" in held:
                h = attention(h, part)
            elif f"{part}.op.weight" in held:
                h = F.conv2d(h, *w(f"{part}.op"), stride=2, padding=1)
            elif f"{part}.conv.weight" in held:
                h = F.conv2d(h.repeat_interleave(2, 2).repeat_interleave(2, 3), *w(f"{part}.conv"), padding=1)
            else:
                h = residual(h, part)
        return h

    angles = time[:, None] * 10000 ** (-torch.arange(64) / 64)
    moment = F.linear(torch.cat([angles.cos(), angles.sin()], 1), *w("time_embed.0"))
    moment = F.linear(F.silu(moment), *w("time_embed.2"))
    h = F.conv2d(x, *w("input_blocks.0.0"), padding=1)
    kept = [h]
    for number in range(1, 12):
        h = block(h, f"input_blocks.{number}")
        kept.append(h)
    h = residual(attention(residual(h, "middle_block.0"), "middle_block.1"), "middle_block.2")
    for number in range(12):
        h = block(torch.cat([h, kept.pop()], 1), f"output_blocks.{number}")
    return F.conv2d(F.silu(F.group_norm(h, 32, *w("out.0"))), *w("out.2"), padding=1)


def test_a_checkpoint_of_torchcfm_says_what_its_own_network_says(weights: dict[str, Tensor], checkpoint: Path) -> None:
    flow = load_flow(f"torchcfm:{checkpoint}")
    assert (flow.spec.path, flow.spec.time_scale, flow.spec.size) == ("linear", 1.0, 32)
    landed = flow.network.state_dict()
    assert sum(value.numel() for value in landed.values()) == 35_746_307
    kept, found = (sorted((v.numel(), v.min(), v.max()) for v in held.values()) for held in (weights, landed))
    assert kept == found  # each tensor once
    assert torch.equal(landed["down.3.attend.project.weight"], weights["input_blocks.4.1.qkv.weight"][:, :, 0])
    assert torch.equal(landed["up.8.resample.conv.bias"], weights["output_blocks.8.2.conv.bias"])
    x, t = normal(2, 3, 8, 8), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        wanted, found = plainly(weights, x, t), flow(x, t)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_files_that_are_no_checkpoint_of_torchcfm(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    assert "does not exist" in refused(f"torchcfm:{path}")
    path.write_bytes(b"not at all")
    assert "cannot be read by torch.load(weights_only=True)" in refused(f"torchcfm:{path}")
    torch.save(nn.Linear(2, 2), path)  # a whole module is a pickle that runs code
    assert "cannot be read by torch.load(weights_only=True)" in refused(f"torchcfm:{path}")
    torch.save({"model": {}}, path)
    assert "holds no 'ema_model' but model" in refused(f"torchcfm:{path}")
    few = {key: value for key, value in weights.items() if "time_embed" in key}
    torch.save({"ema_model": few | {"label_emb.weight": torch.ones(2)}}, path)
    said = refused(f"torchcfm:{path}")
    assert "missing: input_blocks.0.0.weight, input_blocks.0.0.bias" in said
    assert "not in it: label_emb.weight" in said
    assert "leave spec= and weights= out" in refused(f"torchcfm:{path}", weights=path)


def test_a_loaded_model_is_a_flow_where_it_was_made_of_one() -> None:
    classifier = load_classifier("bundled:cifar10-prg")
    assert load_flow(classifier) is classifier.module.flow
    assert load_flow(classifier.adapter) is classifier.module.flow
    net = build_network(name="plain", classes=2, channels=[4], depths=[1])
    with pytest.raises(UserError, match=r"'Plain\w*' is loaded as a model, and a flow is needed; give a run of"):
        load_flow(load_model(net, ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 2)))
