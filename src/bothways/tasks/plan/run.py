"""Plan a training: count a step on tensors without numbers, and write what it will cost to a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from math import gcd
from pathlib import Path
from typing import Any, final

from bothways import budget
from bothways.budget import amount, greatest
from bothways.processes.group import Processes
from bothways.progress import stage
from bothways.reading import is_there
from bothways.runs.experiment import Experiment
from bothways.runs.files import plain
from bothways.tasks.plan.config import PlanConfig
from bothways.tasks.plan.devices import Device, device_of
from bothways.tasks.plan.estimate import FRAME, Cost, Counted, counted
from bothways.tasks.plan.probe import Speed, probed
from bothways.tasks.plan.result import Plan, table_of
from bothways.tasks.plan.subject import Subject, subject_of
from bothways.tasks.work import Grid, Where, Work, write_file
from bothways.training.sharded import sharding
from bothways.types import Frame, UserError

SUFFIX, MARK = ".json", b'"plan of"'
ROOM = 0.9  # of a device's memory that tensors may take: its driver, and what an allocator cannot use, have the rest
MOST_DEVICES = 4096


@final
@dataclass
class PlanWork(Work):
    """A run of ``plan``. count: of the devices."""

    config: PlanConfig
    subject: Subject
    device: Device
    count: int
    path: Path | None
    experiment: Experiment = field(default_factory=Experiment)
    facts: dict[str, Any] = field(default_factory=dict)
    doing = "counting"
    done_word = "planned"

    @property
    def steps(self) -> int:
        return 1

    def frames(self) -> Iterator[Frame]:
        """Count, and time if there is a probe; one frame."""
        with stage("counting a step"):
            found = self.counted()
        speed = probed(self.subject, self.device.name) if self.config.probe else None
        self.facts = facts_of(self, found, speed)
        yield Frame(1, 1.0)

    def counted(self, subject: Subject | None = None, count: int | None = None) -> Counted:
        """Count the training, or a changed one, on these devices or on so many."""
        subject = subject or self.subject
        return counted(subject, devices=count or self.count, gpu=self.device.gpu, sharded=subject.config.run.fsdp)

    def measures(self) -> dict[str, Any]:
        """Write the file."""
        if self.path is not None:
            write_file(self.path, (json.dumps(plain(self.facts), indent=1) + "\n").encode())
        return dict(self.facts)  # to which the run's own cost is added

    def result(self, measures: dict[str, Any]) -> Plan:
        return Plan(self.facts)

    def as_json(self, result: Plan) -> Any:
        return result.facts

    def plan(self) -> str:
        return f"a {self.subject.task} of {self.subject.config.fit.steps} steps would be planned"

    def summary(self, result: Plan, out: Path | None) -> Iterator[str | Grid]:
        yield from table_of(result.facts)
        if self.path is not None:
            yield f"the plan is {self.path}"

    def page(self, out: Path | None) -> None:
        """None: the task writes a file without a report."""


def prepare(config: PlanConfig, where: Where) -> PlanWork:
    """Prepare a run of ``plan``. Raises UserError for invalid input, before anything is counted."""
    earlier = where.out is not None and is_there(Path(where.out))  # a plan is replaced, another file never
    path = replace(where, overwrite=where.overwrite or earlier).file(SUFFIX, MARK)
    device, count = device_of(config.device)
    if config.probe and not device.here:
        raise UserError(f"--probe measures on this machine; type --device cpu or cuda with it, not {config.device}")
    subject = subject_of(config)
    _check_parts(subject, count)
    sharding(subject.config.run.fsdp, subject.config.fit.optimizer, Processes(count=count))
    if subject.config.fit.bf16 and device.peak(True) is None and not device.here:
        raise UserError(f"{device.name} has no bfloat16; type --no-bf16")
    return PlanWork(config, subject, device, count, path)


def _check_parts(subject: Subject, count: int) -> None:
    """Raise UserError for a batch that its devices and parts do not divide."""
    fit = subject.config.fit
    parts = count * fit.accumulate
    said = f"{count} devices" + (f" times accumulate={fit.accumulate}" if fit.accumulate > 1 else "")
    flow_batch = subject.config.loss.flow_batch if subject.task == "finetune" else None
    for option, size in (("batch", fit.batch), ("flow-batch", flow_batch)):
        if size and size % parts:
            near = max(1, size // parts) * parts
            raise UserError(f"{option}={size} is not divisible by {said}; type --{option} {near}, or another --device")


def facts_of(work: PlanWork, found: Counted, speed: Speed | None) -> dict[str, Any]:
    """The content of plan.json."""
    subject, fit, device, cost = work.subject, work.subject.config.fit, work.device, found.cost
    batch, steps = fit.batch, fit.total
    seconds, by = _seconds(work, cost.operations, speed)
    hours = None if seconds is None else seconds * steps / 3600
    checkpoint, run = found.held.files, subject.config.run
    copies = (steps // run.keep_every) * found.saved_weights if run.keep_every else 0.0
    disk = {"checkpoint": checkpoint, "weights": found.saved_weights, "copies": copies, "frames": FRAME * steps}
    disk["total"] = 2 * checkpoint + found.saved_weights + copies + disk["frames"]
    direct = found.direct
    time: dict[str, Any] = {"by": by}
    if seconds is not None:
        time |= {"seconds_per_step": seconds, "images_per_second": batch / seconds, "hours": hours}
    channels, *size = subject.pictures.shape
    return {
        "plan of": subject.task,
        "what": f"{subject.task} {subject.config.recipe}",
        "settings": subject.config.model_dump(exclude={"run"}),
        "device": {"text": work.config.device, "name": device.name, "count": work.count, "source": device.source}
        | {"pictures_each": batch // work.count, "pictures_at_once": batch // work.count // fit.accumulate}
        | {"fsdp": found.held.sharded, "sent": found.held.sent},
        "network": {"parameters": found.parameters, "trained": found.trained, "tune": subject.tuned}
        | {"gradients": found.held.gradients},
        "data": {"pictures": subject.pictures.count, "size": size, "channels": channels},
        "batch": batch,
        "steps": steps,
        "epochs": steps * batch / subject.pictures.count,
        "operations": {
            "call": found.forward,
            "step": cost.operations * work.count,
            "all": cost.operations * work.count * steps,
        },
        "memory": {**asdict(cost), "total": cost.total, "device": device.memory, "fits": fits(cost, device)},
        "direct": {"operations": direct.operations * work.count, "memory": direct.total} if direct else None,
        "time": time,
        "money": {"price": work.config.price, "total": hours * work.count * work.config.price}
        if hours is not None and work.config.price
        else None,
        "disk": disk,
        "expect": {key: value for key, value in subject.expect.items() if key not in ("cost", "task")},
        "advice": advice(work, found, disk["total"]),
    }


def _seconds(work: PlanWork, operations: float, speed: Speed | None) -> tuple[float | None, str]:
    """Seconds of a step, and what they are known by."""
    fit, peak = work.subject.config.fit, work.device.peak(work.subject.config.fit.bf16)
    if speed is not None:
        return speed.seconds(fit.batch), f"by steps of {speed.pictures[0]} and {speed.pictures[1]} pictures"
    if peak is None:
        return None, "type --probe to measure it"
    share = work.config.utilisation
    return operations / (peak * share), f"{share:g} of {peak / 1e12:,.4g} T/s, a guess"


def fits(cost: Cost, device: Device) -> bool:
    """Whether a step fits into a device, with room for what is no tensor."""
    return cost.total <= ROOM * device.memory


def advice(work: PlanWork, found: Counted, disk: float) -> list[str]:
    """What to change where the training does not fit, a line each."""
    lines = [] if fits(found.cost, work.device) else [_smaller(work, found)]
    if (free := budget.free_disk(".")) < disk and work.device.here:
        lines.append(
            f"the files would take {amount(disk)}, and {amount(free)} are free here; type a larger --keep-every"
        )
    return lines


def _smaller(work: PlanWork, found: Counted) -> str:
    """The line for a step that does not fit: what does, each counted, or neither."""
    fit, room, cost = work.subject.config.fit, ROOM * work.device.memory, found.cost
    at_once = fit.batch // work.count // fit.accumulate
    grows = cost.activations + cost.states + max(0.0, cost.rest - found.held.of_a_step)
    fixed = cost.total - grows

    def total(pictures: int) -> float:
        return fixed + grows * pictures / at_once

    begins = f"a step takes {amount(cost.total)} of memory, and {work.device.name} has {amount(room)} for it"
    most = greatest(total, room, at_once)
    ways = [*_fewer_at_once(work, most), *_otherwise(work)]
    more = _devices(work.subject, most) if most and not work.device.here else None
    if more and more <= MOST_DEVICES and fits(work.counted(count=more).cost, work.device):
        ways.append(f"--device {work.device.name}:{more}")
    if not ways:
        return f"{begins}; {amount(fixed)} do not depend on the batch: type a smaller --net, or a larger device"
    return f"{begins}; type {', or '.join(ways)}"


def _fewer_at_once(work: PlanWork, most: int) -> Iterator[str]:
    """A batch that fits, and the present one in parts that fit. most: pictures that fit at one time, about; or 0."""
    fit, each = work.subject.config.fit, work.subject.config.fit.batch // work.count
    if not most:
        return
    smaller = most * work.count * fit.accumulate
    if fits(work.counted(_changed(work.subject, "fit", batch=smaller)).cost, work.device):
        yield f"--batch {smaller}"
    common = _common(work.subject) // work.count
    parts = next((count for count in range(-(-each // most), common + 1) if common % count == 0), None)
    if parts and fits(work.counted(_changed(work.subject, "fit", accumulate=parts)).cost, work.device):
        yield f"--accumulate {parts}"


def _otherwise(work: PlanWork) -> Iterator[str]:
    """Other settings with which the same step fits."""
    subject = work.subject
    ways: dict[str, Subject] = {}
    if subject.steps and subject.config.features.gradient == "direct":
        ways["--gradient exact"] = _changed(subject, "features", gradient="exact")
    if getattr(subject.config.fit, "checkpoint_activations", True) is False and not subject.config.holds_flow:
        ways["--checkpoint-activations"] = _changed(subject, "fit", checkpoint_activations=True)
    if work.count > 1 and not subject.config.run.fsdp and subject.config.fit.optimizer != "muon":
        ways["--fsdp"] = _changed(subject, "run", fsdp=True)
    return (words for words, other in ways.items() if fits(work.counted(other).cost, work.device))


def _changed(subject: Subject, table: str, **values: Any) -> Subject:
    """The same training with other settings of a table."""
    config = subject.config
    return replace(subject, config=config.model_copy(update={table: getattr(config, table).model_copy(update=values)}))


def _devices(subject: Subject, most: int) -> int | None:
    """The least number of devices that divides a batch, in its parts, into at most so many pictures; None for none."""
    fit, common = subject.config.fit, _common(subject) // subject.config.fit.accumulate
    counts = range(-(-fit.batch // fit.accumulate // most), common + 1)
    return next((count for count in counts if common % count == 0), None)


def _common(subject: Subject) -> int:
    """The greatest number that divides the batch and that of the flow's own loss."""
    fit = subject.config.fit
    return gcd(fit.batch, (subject.config.loss.flow_batch or 0) if subject.task == "finetune" else 0)
