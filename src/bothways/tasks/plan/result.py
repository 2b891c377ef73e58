"""The result of ``plan``: what plan.json holds, and its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bothways.brief import Brief
from bothways.budget import amount
from bothways.tasks.work import Grid

PARTS = {
    "weights": "weights",
    "average": "average of weights",
    "optimizer": "optimiser",
    "copy": "whole copy",
    "gathered": "gathered weights",
    "states": "states of the walk",
    "activations": "activations",
    "rest": "gradients, buffers",
}


@dataclass(frozen=True, repr=False)
class Plan(Brief):
    """A plan. facts: the content of plan.json, in bytes, seconds and operations; a multiply-add is two of these."""

    facts: dict[str, Any]

    @property
    def fits(self) -> bool:
        """Whether a step fits the device."""
        return bool(self.facts["memory"]["fits"])

    @property
    def hours(self) -> float | None:
        """Of the whole training; None where nothing says how fast the device is."""
        return self.facts["time"].get("hours")


def table_of(facts: Mapping[str, Any]) -> Iterator[str | Grid]:
    """The table of a plan for a terminal, and the lines of what to change."""
    rows = [*_training(facts), *_memory(facts), *_time(facts), *_disk(facts), *_expected(facts)]
    yield Grid(("", "planned", "of which"), rows, title=f"{facts['what']} on {facts['device']['text']}")
    yield from facts["advice"]


def _training(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Parameters, pictures, steps and operations."""
    network, data, operations = facts["network"], facts["data"], facts["operations"]
    trained = "all trained" if network["trained"] == network["parameters"] else f"{network['trained']:,} trained"
    trained += f", {network['tune']}" if network["tune"] != "all" else ""
    yield "parameters", f"{network['parameters']:,}", trained
    kind = {1: "grey", 3: "RGB"}.get(data["channels"], f"{data['channels']} channels")
    yield "pictures", f"{data['pictures']:,}", f"{data['size'][0]} x {data['size'][1]}, {kind}"
    parts = facts["device"]["pictures_each"] // facts["device"]["pictures_at_once"]
    yield "steps", f"{facts['steps']:,}", f"of {facts['batch']} pictures, {facts['epochs']:.4g} epochs"
    if parts > 1:
        yield "parts of a batch", f"{parts}", f"of {facts['device']['pictures_at_once']} pictures on a device"
    yield "operations of a step", _operations(operations["step"]), f"{_operations(operations['call'])} a network call"
    yield "operations in all", _operations(operations["all"]), ""


def _memory(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """By part, in all, and what the exact gradient saves."""
    memory, device, direct = facts["memory"], facts["device"], facts["direct"]
    shared = ("weights", "average", "optimizer") if device["fsdp"] else ()
    notes = dict.fromkeys(shared, f"a share of {device['count']}")
    notes["activations"] = f"of {device['pictures_at_once']} pictures"
    notes["activations"] += ", blocks again" if facts["settings"]["fit"].get("checkpoint_activations") else ""
    notes["rest"] = f"gradients are {amount(facts['network']['gradients'])}"
    for key, words in PARTS.items():
        if memory[key]:
            yield f"memory, {words}", amount(memory[key]), notes.get(key, "")
    yield "memory in all", amount(memory["total"]), f"{'of' if memory['fits'] else 'too much for'} {_device(facts)}"
    if direct:
        saved, more = memory["total"] / direct["memory"], facts["operations"]["step"] / direct["operations"]
        yield "memory, backpropagated", amount(direct["memory"]), f"exact gradient: {saved:.2g} of it"
        yield "operations of that", _operations(direct["operations"]), f"exact gradient: {more:.3g} times it"


def _device(facts: Mapping[str, Any]) -> str:
    return f"{amount(facts['memory']['device'])} of {facts['device']['name']}"


def _time(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    time, money = facts["time"], facts["money"]
    if "hours" not in time:
        yield "time", "not known", time["by"]
        return
    yield "images/s", f"{time['images_per_second']:,.4g}", time["by"]
    yield "time", _hours(time["hours"]), f"{time['seconds_per_step']:.3g} s a step"
    if facts["device"]["sent"]:
        yield "sent by each device", amount(facts["device"]["sent"]), "a step; not in the time"
    if money:
        yield "money", f"{money['total']:,.2f}", f"{money['price']:g} an hour of a device"


def _disk(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    disk = facts["disk"]
    yield "disk", amount(disk["total"]), f"two checkpoints of {amount(disk['checkpoint'])}"


def _expected(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What the recipe says of its paper."""
    expect = facts["expect"]
    if "accuracy" in expect:
        yield "accuracy in the paper", f"{expect['accuracy']:g} %", "after fine-tuning"


def _operations(count: float) -> str:
    """A number of operations for a person: 1.01e13 -> "10.1 T"."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g}"


def _hours(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.3g} min"
    return f"{hours:.3g} h" if hours < 100 else f"{hours:,.0f} h ({hours / 24:.3g} days)"
