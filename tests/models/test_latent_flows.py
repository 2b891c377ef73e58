"""Flows of diffusers beyond plain U-Nets, and flows on latents: against the formulas of their libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import bothways
from bothways import UserError, load_flow
from bothways.models.libraries.diffusers_networks import EMBEDDINGS
from bothways.models.velocity import Flow
from bothways.representation.paths.karras import Karras
from latent_flows import (
    CHANNELS,
    DIT,
    FACTOR,
    PIXELS,
    SD3,
    SIDE,
    UNET,
    latent_unet,
    need_diffusers,
    normal,
    of,
    save_pipeline,
    save_vae,
    state,
)

T = torch.tensor([0.0, 0.3, 0.75, 1.0], dtype=torch.float64)
X = normal(4, 3, SIDE, SIDE)
Z = normal(4, CHANNELS, SIDE, SIDE)


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max().detach())


def refused(address: str) -> str:
    with pytest.raises(UserError) as caught:
        load_flow(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@torch.no_grad()
def velocity(flow: Flow, x: Tensor, t: Tensor = T) -> Tensor:
    return flow.double()(x, t)


# ---- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_matching_scheduler_steps_as_the_flow_does(tmp_path: Path, shift: float) -> None:
    diffusers, network = need_diffusers(), of("UNet2DModel", UNET)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    flow = load_flow(f"diffusers:{save_pipeline(tmp_path, network, scheduler, vae=False)}")
    assert (flow.spec.path, flow.shape, flow.latents) == ("linear", (3, SIDE, SIDE), None)
    with torch.no_grad():
        wanted = -network.double()(X, 1000 * (1 - T)).sample
    assert apart(velocity(flow, X), wanted) < 1e-12
    scheduler.set_timesteps(6)
    for k, now, then in zip(scheduler.timesteps, scheduler.sigmas[:-1], scheduler.sigmas[1:], strict=True):
        with torch.no_grad():
            theirs = scheduler.step(network(X[:1], k).sample, k, X[:1]).prev_sample
        ours = X[:1] + (now - then) * velocity(flow, X[:1], (1 - now.double())[None])
        assert apart(ours, theirs) < 1e-5  # their step is of float32


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_preconditioning_of_edm(tmp_path: Path, prediction: str) -> None:
    """dx/dt of x = y / sqrt(1 + sigma^2), from the library's denoised picture D and dy/dsigma = (y - D) / sigma."""
    diffusers, network = need_diffusers(), of("UNet2DModel", UNET)
    scheduler = diffusers.EDMEulerScheduler(prediction_type=prediction, sigma_max=40.0, sigma_data=0.7)
    flow = load_flow(f"diffusers:{save_pipeline(tmp_path / 'a', network, scheduler, vae=False)}")
    path, network = Karras(0.002, 40.0), network.double()
    sigma = path.sigma(T).view(-1, 1, 1, 1)
    assert apart(sigma.flatten()[[0, -1]], torch.tensor([40.0, 0.002]).double()) < 1e-9
    noisy = X * (1 + sigma**2).sqrt()
    with torch.no_grad():
        time = scheduler.precondition_noise(sigma.flatten())
        found = network(scheduler.precondition_inputs(noisy, sigma), time).sample
    clean = scheduler.precondition_outputs(noisy, found, sigma)
    step = 1e-6
    slope = ((path.sigma(T + step) - path.sigma(T - step)) / (2 * step)).view(-1, 1, 1, 1)
    wanted = slope * ((noisy - clean) / sigma / (1 + sigma**2).sqrt() - noisy * sigma * (1 + sigma**2) ** -1.5)
    assert (
        apart(velocity(flow, X) / wanted.abs().amax((1, 2, 3), True), wanted / wanted.abs().amax((1, 2, 3), True))
        < 1e-7
    )
    if prediction == "epsilon":  # the same numbers on a card, without a scheduler
        network.float().save_pretrained(tmp_path / "b")
        state(tmp_path / "b", sigma_data=0.7, sigma_max=40.0)
        assert apart(velocity(load_flow(f"diffusers:{tmp_path / 'b'}"), X), velocity(flow, X)) < 1e-9


def test_the_path_of_edm_is_what_its_weights_say() -> None:
    path, step = Karras(), 1e-6
    t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    a, s, da, ds = path(t)
    assert apart(a**2 + s**2, torch.ones_like(t)) < 1e-12
    assert apart(s / a, path.sigma(t)) < 1e-12
    for slope, place in ((da, 0), (ds, 1)):
        assert apart(slope, (path(t + step)[place] - path(t - step)[place]) / (2 * step)) < 1e-6
    assert float(path(torch.zeros(1)).s) > 0.9999  # noise of N(0, 1) alone
    assert float(path(torch.ones(1)).a) > 0.9999


# ---- conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("klass", [None, 2, "mean"])
def test_a_class_conditional_unet_runs_at_one_embedding(tmp_path: Path, klass: Any) -> None:
    network = of("UNet2DModel", UNET, num_class_embeds=5)
    save_pipeline(tmp_path, network, need_diffusers().DDPMScheduler(), vae=False)
    address = f"diffusers:{tmp_path}"
    if klass is None:
        with pytest.warns(UserWarning, match="mean embedding of its 5 classes"):
            flow = load_flow(address)
    else:
        state(tmp_path, klass=klass)
        flow = load_flow(address)
    labels = torch.full((4,), klass if isinstance(klass, int) else 0)
    with torch.no_grad():
        if not isinstance(klass, int):
            network.class_embedding.weight.copy_(network.class_embedding.weight.mean(0).expand(5, -1))
        said = network.double()(X, 999 * (1 - T), class_labels=labels).sample
        a, s, da, ds = (weight.view(-1, 1, 1, 1) for weight in flow.path(T))
    assert apart(velocity(flow, X), da * (X - s * said) / a + ds * said) < 1e-6  # the table of levels is of float32
    assert not any("class_embedding.weight" in name for name in flow.state_dict())


def test_classes_that_are_embedded_like_times_and_what_is_refused(tmp_path: Path) -> None:
    network = of("UNet2DModel", UNET, class_embed_type="timestep")
    address = (
        f"diffusers:{save_pipeline(tmp_path, network, need_diffusers().FlowMatchEulerDiscreteScheduler(), vae=False)}"
    )
    assert 'runs at one class: state {"class": a number}' in refused(address)
    state(tmp_path, klass=3)
    with torch.no_grad():
        wanted = -network(X.float(), 1000 * (1 - T).float(), class_labels=torch.full((4,), 3)).sample
        assert apart(load_flow(address)(X.float(), T.float()), wanted) < 1e-5
    for klass in ("mean", "null", -1, 2.5, True):
        state(tmp_path, klass=klass)
        assert "runs at one class" in refused(address)
    of("UNet2DModel", UNET, num_class_embeds=5).save_pretrained(tmp_path / "unet")
    for klass in (5, "null"):
        state(tmp_path, klass=klass)
        assert "a number from 0 to 4" in refused(address)
    of("UNet2DModel", UNET, class_embed_type="identity").save_pretrained(tmp_path / "unet")
    assert "takes an embedding of a class from outside" in refused(address)


def test_dit_at_its_null_class_without_its_variances(tmp_path: Path) -> None:
    diffusers, network = need_diffusers(), of("DiTTransformer2DModel", DIT)
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100)
    place = save_pipeline(tmp_path, network, scheduler)
    flow = load_flow(f"diffusers:{place}")
    assert (flow.spec.size, flow.shape, flow.spec.path) == (PIXELS, (CHANNELS, SIDE, SIDE), "scheduled")
    network = network.double()

    def wanted(label: int) -> Tensor:
        with torch.no_grad():
            said = network(Z, timestep=99 * (1 - T), class_labels=torch.full((4,), label)).sample[:, :CHANNELS]
        a, s, da, ds = (weight.view(-1, 1, 1, 1) for weight in flow.path(T))
        return da * (Z - s * said) / a + ds * said

    assert apart(velocity(flow, Z), wanted(10)) < 1e-5
    state(place, klass=4)
    assert apart(velocity(load_flow(f"diffusers:{place}"), Z), wanted(4)) < 1e-5
    assert apart(wanted(4), wanted(10)) > 1e-3
    (place / "bothways.json").unlink()
    config = json.loads((place / "transformer" / "config.json").read_text())
    (place / "transformer" / "config.json").write_text(
        json.dumps(config | {"_class_name": "Transformer2DModel", "norm_type": "ada_norm_zero"})
    )
    assert apart(velocity(load_flow(f"diffusers:{place}"), Z), wanted(10)) < 1e-5


def test_stable_diffusion_3_reads_the_empty_prompt_of_a_file(tmp_path: Path) -> None:
    network = of("SD3Transformer2DModel", SD3)
    place = save_pipeline(tmp_path, network, need_diffusers().FlowMatchEulerDiscreteScheduler(shift=3.0))
    need = "prompt_embeds (L, 12) and pooled_prompt_embeds (10,)"
    assert f"put the embedding of the empty prompt into {place / 'prompt.safetensors'}, {need}" in refused(
        f"diffusers:{place}"
    )
    prompt, pooled = normal(7, 12, purpose="prompt").float(), normal(10, purpose="pooled").float()
    save_file({EMBEDDINGS[0]: prompt, EMBEDDINGS[1]: prompt.clone()}, place / "prompt.safetensors")
    assert f"it needs {need}" in refused(f"diffusers:{place}")
    save_file({EMBEDDINGS[0]: prompt[None], EMBEDDINGS[1]: pooled[None]}, place / "none.safetensors")
    state(place, prompt="none.safetensors")
    flow = load_flow(f"diffusers:{place}")
    with torch.no_grad():
        wanted = -network.double()(
            hidden_states=Z, encoder_hidden_states=prompt.double().expand(4, -1, -1),
            pooled_projections=pooled.double().expand(4, -1), timestep=1000 * (1 - T),
        ).sample  # fmt: skip
    assert apart(velocity(flow, Z), wanted) < 1e-12


# ---- latents ---------------------------------------------------------------------------------------------------------


def test_pictures_are_encoded_and_come_back(tmp_path: Path) -> None:
    flow = load_flow(f"diffusers:{latent_unet(tmp_path)}")
    vae = need_diffusers().AutoencoderKL.from_pretrained(tmp_path / "vae").double()
    pictures = torch.rand(9, 3, PIXELS, PIXELS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        latents = vae.config.scaling_factor * vae.encode(2 * pictures - 1).latent_dist.mode()
        shown = (vae.decode(latents / vae.config.scaling_factor).sample + 1) / 2
    flow.double()
    assert apart(flow.code(pictures), latents) < 1e-10
    assert apart(flow.picture(latents), shown) < 1e-10
    assert torch.equal(flow.code(latents), latents)  # what is a latent already
    assert latents.shape == (9, CHANNELS, PIXELS // FACTOR, PIXELS // FACTOR)
    # picture -> latent -> noise -> latent -> picture, by a solver that is inverted exactly
    how: dict[str, Any] = {"depth": 1.0, "steps": 20, "solver": "reversible-heun"}
    noise = bothways.encode(flow, pictures[:3], full_state=True, **how)
    assert apart(noise[0], latents[:3]) > 0.1
    assert apart(bothways.decode(flow, noise, **how), shown[:3]) < 1e-6
    assert not any("vae" in name for name in flow.state_dict())
    image = pictures[:1].clone().requires_grad_()
    flow.picture(flow.code(image)).square().sum().backward()
    assert image.grad is not None
    assert float(image.grad.abs().max()) > 0


def test_shifted_and_standardised_latents(tmp_path: Path) -> None:
    picture = torch.rand(1, 3, PIXELS, PIXELS, dtype=torch.float64)
    mean, deviation = [0.1, 0.2, -0.3, 0.4], [1.0, 2.0, 0.5, 3.0]
    latent_unet(tmp_path)
    for changes in ({"shift_factor": 0.06, "scaling_factor": 1.5}, {"latents_mean": mean, "latents_std": deviation}):
        vae = save_vae(tmp_path / "vae", **changes).double()
        shift, scale = 0.06, 1.5
        if "latents_mean" in changes:
            shift, scale = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, deviation))
            scale = 0.18215 / scale
        flow = load_flow(f"diffusers:{tmp_path}").double()
        with torch.no_grad():
            raw = vae.encode(2 * picture - 1).latent_dist.mode()
            assert apart(flow.code(picture), (raw - shift) * scale) < 1e-10
            assert apart(flow.picture(flow.code(picture)), (vae.decode(raw).sample + 1) / 2) < 1e-10


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        (
            "unet/config.json",
            {"_class_name": "UNet2DConditionModel"},
            "is a UNet2DConditionModel; type a UNet2DModel, a",
        ),
        ("unet/config.json", {"_class_name": "Transformer2DModel"}, "norm_type None, and DiT has 'ada_norm_zero'"),
        ("unet/config.json", {"in_channels": 3}, "has 3 channels in and 4 out, not the 4 of its autoencoder of each"),
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "of an autoencoder AutoencoderTiny"),
        ("vae/config.json", {"in_channels": 1}, "its autoencoder has 1 channels of a picture"),
        ("scheduler/scheduler_config.json", {"invert_sigmas": True}, "inverts the sigmas"),
        ("bothways.json", {"sigma_data": -1.0}, "sigma_data=-1"),
        ("bothways.json", {"sigma_data": "half"}, "bothways.json"),
    ],
)
def test_flows_of_other_kinds_are_refused(tmp_path: Path, file: str, changes: dict[str, Any], said: str) -> None:
    place = latent_unet(tmp_path)
    held = json.loads((place / file).read_text()) if (place / file).exists() else {}
    (place / file).write_text(json.dumps(held | changes))
    assert said in refused(f"diffusers:{place}")


def test_an_autoencoder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = latent_unet(tmp_path)
    (place / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert "no diffusion_pytorch_model.safetensors in the folder" in refused(f"diffusers:{place}")
    (place / "model_index.json").write_text(json.dumps({"vae": ["diffusers", "AutoencoderKL"]}))
    (place / "vae").rename(place / "other")
    assert "and there is no" in refused(f"diffusers:{place}")
    (place / "model_index.json").write_text(json.dumps({"vqvae": ["diffusers", "VQModel"]}))
    assert "codes of an autoencoder VQModel" in refused(f"diffusers:{place}")
