"""What a training will cost, beside what the same training takes: operations, memory and files; no test is on time."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways import UserError
from bothways.numerics.discrete_adjoint import KEEP
from bothways.numerics.footprint import Tally, tally
from bothways.representation.heads import last_linear
from bothways.runs.files import plain
from bothways.tasks.plan import probe
from bothways.tasks.plan.config import PlanConfig
from bothways.tasks.plan.devices import BY_NAME, device_of
from bothways.tasks.plan.estimate import counted
from bothways.tasks.plan.run import ROOM
from bothways.tasks.plan.subject import Subject, subject_of
from bothways.training.fit import FitState, fit
from command import refused, run
from small_recipe import SMALL


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    file.write_text(SMALL)
    return str(file)


def subject(command: str, **settings: Any) -> Subject:
    return subject_of(PlanConfig(command=command, given=settings))


def taken(planned: Subject, gradient: str = "direct") -> Tally:
    """What a step really does on this machine, with numbers."""
    network, batch = planned.network("cpu", gradient=gradient), planned.example(planned.config.fit.batch, "cpu")

    def work() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=planned.config.fit.bf16):
            value, _ = planned.loss(network, batch)
        value.backward()

    return tally(work, [*network.parameters(), *network.buffers(), *batch])


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient": "exact", "steps": 8},
        {"gradient": "direct", "steps": 8},
        {"gradient": "exact", "steps": 7, "solver": "midpoint", "beta": 0.0},
        {"kind": "activations"},
        {"frozen": True, "steps": 8},
    ],
    ids=lambda settings: " ".join(map(str, settings.values())),
)
@pytest.mark.slow
def test_a_step_of_a_fine_tuning_takes_what_was_planned(recipe: str, settings: dict[str, Any]) -> None:
    planned = subject("finetune", flow=recipe, validation=40, batch=24, **settings)
    cost = counted(planned).cost
    found = taken(planned, settings.get("gradient", "direct"))
    assert cost.operations == found.operations
    assert abs((cost.states + cost.activations + cost.rest) / found.peak - 1) < 0.1
    if settings.get("gradient") != "exact":  # that one keeps again what it makes again
        assert cost.activations == found.saved


@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_of_a_pretraining_takes_what_was_planned(recipe: str, bf16: bool) -> None:
    planned = subject("pretrain", recipe=recipe, bf16=bf16)
    cost, found = counted(planned).cost, taken(planned)
    assert cost.operations == found.operations
    assert abs(cost.activations / found.saved - 1) < (0.02 if bf16 else 1e-9)
    assert abs((cost.activations + cost.rest) / found.peak - 1) < 0.1


@pytest.mark.slow
def test_operations_and_states_by_their_closed_forms(recipe: str) -> None:
    """Exact: N - keep forward passes more than backpropagation, and as many states."""
    steps, batch = 9, 24
    planned = subject("finetune", flow=recipe, validation=40, batch=batch, steps=steps)
    found = counted(planned)
    assert found.direct is not None
    assert found.cost.operations - found.direct.operations == (steps - KEEP) * found.forward * batch
    assert found.cost.states == (steps - KEEP) * batch * 8 * 8 * 4
    assert found.direct.states == 0
    longer = counted(subject("finetune", flow=recipe, validation=40, batch=batch, steps=steps + 10))
    # a step: forward, again, and backward twice that, but for what reads the time alone
    assert 3.95 < (longer.cost.operations - found.cost.operations) / (10 * found.forward * batch) <= 4
    assert longer.cost.total - found.cost.total == 10 * batch * 8 * 8 * 4
    assert longer.direct is not None
    assert longer.direct.total > 1.5 * found.direct.total
    assert subject("finetune", flow=recipe, validation=40, steps=KEEP).recomputed == 0


@pytest.mark.slow
def test_weights_that_lie_channels_last_take_what_was_planned(tmp_path: Path) -> None:
    """Those of a flow that is loaded do, and normalisation on a CPU makes copies of what they give."""
    file = tmp_path / "run.toml"
    file.write_text(SMALL)
    made = bothways.pretrain(recipe=str(file), data="digits", steps=1, workers=0, out=tmp_path / "run")
    assert made.folder.path == tmp_path / "run"
    planned = subject("finetune", flow=str(tmp_path / "run"), data="digits", batch=24, steps=2, gradient="direct")
    cost, found = counted(planned).cost, taken(planned)
    assert cost.activations == found.saved
    assert abs((cost.activations + cost.rest) / found.peak - 1) < 0.1


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_what_a_training_holds_between_steps(recipe: str, optimizer: str) -> None:
    planned = subject("pretrain", recipe=recipe, optimizer=optimizer)
    cost = counted(planned).cost
    state = FitState(planned.network("cpu"), planned.config.fit)
    next(fit(state, planned.loss, lambda step: planned.example(4, "cpu"), planned.config.fit))
    held = [value for one in state.optimizers for own in one.state.values() for value in own.values()]
    assert cost.optimizer == sum(value.nbytes for value in held)
    assert cost.weights == sum(value.nbytes for value in state.network.state_dict().values())
    assert cost.average == cost.weights
    assert counted(subject("pretrain", recipe=recipe, average=0.0)).cost.average == 0


def test_several_devices_share_a_batch(recipe: str) -> None:
    planned = subject("pretrain", recipe=recipe)
    one, four = (counted(planned, devices=devices).cost for devices in (1, 4))
    assert one.operations == 4 * four.operations
    assert one.activations == pytest.approx(4 * four.activations, rel=1e-2)
    gradients = counted(planned).trained * 4
    assert four.rest >= 2 * gradients  # and the buckets in which they are sent
    single, double = (
        bothways.plan("pretrain", {"recipe": recipe}, device=name, price=2.5) for name in ("h100", "h100:2")
    )
    assert single.hours == pytest.approx(2 * double.hours)
    assert single.facts["money"]["total"] == pytest.approx(double.facts["money"]["total"])
    seconds = single.facts["operations"]["all"] / (67e12 * 0.17)
    assert single.hours == pytest.approx(seconds / 3600)
    assert single.facts["money"]["total"] == pytest.approx(2.5 * seconds / 3600)
    half = bothways.plan("pretrain", {"recipe": recipe, "bf16": True}, device="h100", utilisation=0.34)
    assert half.hours == pytest.approx(single.hours * 67 / 989 / 2)


@pytest.mark.slow
def test_the_files_of_a_run_are_of_the_planned_size(recipe: str, tmp_path: Path) -> None:
    made = {"recipe": recipe, "data": "digits", "steps": 2, "keep_every": 1}
    disk = bothways.plan("pretrain", made).facts["disk"]
    bothways.pretrain(**made, out=tmp_path / "run")
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "run").iterdir()}
    tensors = 5 * sum(1 for _ in subject("pretrain", recipe=recipe).network().parameters())
    assert 0 < sizes["checkpoint.pt"] - disk["checkpoint"] < 1000 * tensors  # torch adds a name and a header for each
    assert sizes["flow.safetensors"] == pytest.approx(disk["weights"], rel=0.05)
    copies = [file.stat().st_size for file in (tmp_path / "run").glob("step-*/flow.safetensors")]
    assert len(copies) == 2
    assert sum(copies) == pytest.approx(disk["copies"], rel=0.05)
    assert disk["total"] > 2 * disk["checkpoint"]
    flow = bothways.plan("finetune", {"flow": str(tmp_path / "run"), "data": "digits"})  # a run is planned on as well
    whole = counted(subject("finetune", flow=recipe))
    assert flow.facts["network"]["parameters"] == whole.parameters


def test_a_table_of_labels_says_how_many_outputs_there_are(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("file,tags\n" + "".join(f"{k}.png,tag {k}\n" for k in range(9)))
    own: dict[str, Any] = {"flow": recipe, "target": "multi-label", "labels_csv": str(tmp_path / "tags.csv")}
    head = subject("finetune", **own).network().head
    assert head.get_submodule(last_linear(head)).out_features == 9
    head = subject("finetune", flow=recipe, target="regression").network().head
    assert head.get_submodule(last_linear(head)).out_features == 1


def test_a_probe_takes_a_line_through_two_batches(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def pretended(state: Any, loss: Any, source: Any, config: Any):
        nonlocal now
        for step in count(1):
            batch = next(source)
            now += 0.5 + 0.25 * len(batch[0]) + (7.0 if step == 1 else 0.0)  # the first step is no measure
            yield step

    monkeypatch.setattr(probe, "fit", pretended)
    speed = probe.probed(subject("pretrain", recipe=recipe), "cpu", lambda: now)
    assert (speed.once, speed.each, speed.pictures) == (pytest.approx(0.5), pytest.approx(0.25), (2, 4))
    assert speed.seconds(16) == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("room", "room_left", "most"),
    [(141e9, True, 512), (40e9, True, 150), (None, True, 512), (141e9, False, 150)],
    ids=["all fit", "a third fits", "memory unknown", "memory ends"],
)
def test_a_probe_of_a_gpu_takes_batches_that_keep_it_busy(
    room: float | None, room_left: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels take 0.46 s to start, under which the pictures of a small batch do not show, and a first step is slow."""
    now, sizes = 0.0, list[int]()

    def seconds(pictures: int) -> float:
        return max(0.46, 0.0015 * pictures)

    def pretended(state: Any, loss: Any, source: Any, config: Any):
        nonlocal now
        sizes.append(len(next(source)[0]))
        if not room_left and sizes[-1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for step in count():
            now += seconds(sizes[-1]) + (90.0 if step == 0 else 0.0) + (9.0 if step == 2 else 0.0)
            yield step

    monkeypatch.setattr(probe, "fit", pretended)
    monkeypatch.setattr(probe, "_taken", lambda device: 0.0 if room is None else 0.7e9 + 0.23e9 * sizes[-1])
    monkeypatch.setattr(probe.budget, "free_memory", lambda device="cpu": room or 1e9)
    whole = subject("pretrain", recipe="paper/cifar10-icfm-s", net="unet-tiny", **{"fit.batch": 512})
    speed = probe.probed(whole, "cpu", lambda: now)
    assert sizes[-1 if room_left else -2] == speed.pictures[1]
    assert max(speed.pictures) >= most / 1.2
    assert room is None or 0.7e9 + 0.23e9 * max(speed.pictures) < probe.ROOM * room * 1.05
    if most == 512:
        assert speed.seconds(512) == pytest.approx(seconds(512), rel=0.05)
    assert speed.seconds(512) < 1.5


def test_the_command_its_file_and_python_say_the_same(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["plan", "pretrain", recipe, "--batch", "8", "--bf16", "--set", "fit.clip=0", "--device", "a100:4"]
    assert run(*typed, "--price", "2") == 0
    table = capsys.readouterr().out
    facts = json.loads((tmp_path / "runs" / "plan.json").read_text())
    assert f"{facts['network']['parameters']:,}" in table
    assert all(words in table for words in ("memory in all", "images/s", "money", "2 an hour of a device", "a guess"))
    assert max(map(len, table.splitlines())) <= 80
    given = {"recipe": recipe, "batch": 8, "bf16": True, "fit.clip": 0}
    assert plain(bothways.plan("pretrain", given, device="a100:4", price=2).facts) == facts
    assert (facts["settings"]["fit"]["clip"], facts["settings"]["fit"]["bf16"], facts["batch"]) == (0, True, 8)
    assert run("plan", recipe, "--batch", "8", "--json") == 0  # the recipe alone; an earlier plan is replaced
    alone = json.loads(capsys.readouterr().out)
    assert alone == json.loads((tmp_path / "runs" / "plan.json").read_text())
    assert alone["time"] == {"by": "type --probe to measure it"}
    assert run("plan", recipe, "--probe", "--out", "other.json") == 0
    assert "by steps of 2 and" in capsys.readouterr().out
    (tmp_path / "mine.json").write_text("{}")
    assert "bothways did not write it" in refused(capsys, "plan", recipe, "--out", "mine.json")
    assert "leave --dry-run out" in refused(capsys, "plan", "finetune", recipe, "--steps", "9", "--dry-run")


@pytest.mark.slow
def test_what_does_not_fit_says_what_does() -> None:
    given = {"recipe": "paper/cifar10-icfm-s", "batch": 4096}
    large = bothways.plan("pretrain", given, device="l4")
    assert not large.fits
    (line,) = large.facts["advice"]
    assert line.count("\n") == 0
    batch, devices = (line.partition(f"{flag} ")[2].split(",")[0] for flag in ("--batch", "--device"))
    assert bothways.plan("pretrain", {**given, "batch": int(batch)}, device="l4").fits
    assert not bothways.plan("pretrain", {**given, "batch": int(1.1 * int(batch))}, device="l4").fits
    assert bothways.plan("pretrain", given, device=devices).fits
    memory = bothways.plan("pretrain", {**given, "batch": 1}, device="l4").facts["memory"]
    assert memory["total"] < ROOM * memory["device"] == ROOM * 24e9


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate"], "or a recipe of one"),
        (["das"], "or a recipe of one"),
        (["pretrain"], "type --data"),
        (["finetune", "--data", "digits"], "the recipe that trains one"),
        (["RECIPE", "--device", "h1000"], "type h100"),
        (["RECIPE", "--device", "h100:0"], "type the number of devices"),
        (["RECIPE", "--device", "h100", "--probe"], "--probe measures on this machine"),
        (["RECIPE", "--device", "h100:3"], "type --batch 15"),
        (["RECIPE", "--batch", "700"], "more than the 100 pictures"),
        (["otcfm", "--data", "digits", "--validation", "1500"], "type a smaller --batch or --validation"),
        (["RECIPE", "--net", "unet-tyni"], "unet-tiny"),
        (["finetune", "RECIPE", "--gradient", "adjoint"], "type --gradient exact"),
        (["finetune", "RECIPE", "--solver", "dopri5", "--gradient", "direct"], "takes its own steps, so that its cost"),
        (["finetune", "RECIPE", "--labels", "601"], "labels=601: there are 600 pictures to choose from"),
        (["finetune", "nowhere", "--data", "digits"], "nowhere"),
        (["RECIPE", "--utilisation", "2"], "utilisation"),
        (["RECIPE", "--price", "-1"], "price"),
        (["RECIPE", "--out", "plan.txt"], ".json file"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    recipe: str, tmp_path: Path, capsys: Any, monkeypatch: Any, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "plan", *(recipe if word == "RECIPE" else word for word in arguments))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_flag_is_that_of_the_command(recipe: str, capsys: Any) -> None:
    assert run("plan", "pretrain", recipe, "--daat", "digits") == 2
    assert "--data" in capsys.readouterr().err


def test_devices_are_of_the_list_or_of_this_machine() -> None:
    device, number = device_of("h100:8")
    assert (device, number, device.memory, device.peak(True), device.peak(False)) == (
        BY_NAME["h100"],
        8,
        80e9,
        989e12,
        67e12,
    )
    here, number = device_of("cpu")
    assert (here.here, here.gpu, number, here.peak(True)) == (True, False, 1, None)
    assert all(one.source and one.bf16 > one.fp32 > 0 for one in BY_NAME.values())
    with pytest.raises(UserError, match="cuda"):
        device_of("cuda:99")


def answered(work: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_words_for_settings_that_fit_no_network(recipe: str) -> None:
    said = answered(lambda: bothways.plan("pretrain", {"recipe": recipe, "network": {"builder": "vit"}}))
    assert "type" in said
    said = answered(lambda: bothways.plan("pretrain", {"recipe": recipe, "network": {"builder": "unet", "heads": 0}}))
    assert "cannot be built" in said
