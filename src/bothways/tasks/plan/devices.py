"""Devices that a training may run on: memory and peak speed.

Sources are the makers' data sheets: dense products without sparsity, bfloat16 on matrix units and plain float32. The
gigabytes of a data sheet are taken as 1e9 bytes, a few per cent less than what torch finds.
"""

from __future__ import annotations

from dataclasses import dataclass

from bothways import budget
from bothways.models.catalogue import check_device
from bothways.registry import nearest
from bothways.types import UserError


@dataclass(frozen=True)
class Device:
    """memory: bytes. bf16, fp32: operations a second at the peak, None where none is known. source: of these."""

    name: str
    memory: float
    bf16: float | None
    fp32: float | None
    source: str
    gpu: bool = True
    here: bool = False

    def peak(self, bf16: bool) -> float | None:
        """Operations a second at the peak of a precision."""
        return self.bf16 if bf16 else self.fp32


def _of(name: str, gigabytes: float, bf16: float, fp32: float, source: str) -> Device:
    return Device(name, gigabytes * 1e9, bf16 * 1e12, fp32 * 1e12, source)


LISTED = (
    _of("a100", 40, 312, 19.5, "NVIDIA A100 40GB data sheet"),
    _of("a100-80", 80, 312, 19.5, "NVIDIA A100 80GB data sheet"),
    _of("h100", 80, 989, 67, "NVIDIA H100 SXM data sheet"),
    _of("h200", 141, 989, 67, "NVIDIA H200 SXM data sheet"),
    _of("l4", 24, 121, 30.3, "NVIDIA L4 data sheet"),
    _of("l40s", 48, 362, 91.6, "NVIDIA L40S data sheet"),
    _of("a10", 24, 125, 31.2, "NVIDIA A10 data sheet"),
    _of("rtx4090", 24, 165, 82.6, "NVIDIA Ada GPU architecture, appendix A"),
    _of("mi300x", 192, 1307, 163.4, "AMD Instinct MI300X data sheet"),
)
BY_NAME = {device.name: device for device in LISTED}
HERE = ("cpu", "cuda", "mps")


def device_of(text: str) -> tuple[Device, int]:
    """The device and the number of them: "h100:8", "cuda:1" (one, the second). Raises UserError for an unknown one."""
    name, _, count = text.partition(":")
    if name in HERE:
        check_device(text)
        return Device(text, budget.free_memory(text), None, None, "free on this machine", name != "cpu", here=True), 1
    if name not in BY_NAME:
        raise UserError(f"no device {name!r}; {nearest(name, [*HERE, *BY_NAME])}")
    if count and not (count.isdecimal() and 1 <= int(count) <= budget.GREATEST):
        raise UserError(f"--device {text}: type the number of devices, such as {name}:8")
    return BY_NAME[name], int(count or 1)
