"""Pictures of 4 pixels on disk, in one folder a class: what trainings of a moment learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bothways.numerics.draws import generator


def noise(count: int) -> Tensor:
    """(count,4,4,3), bytes without colour of their own."""
    source = generator(1, purpose="colours")
    return torch.stack([torch.randint(0, 256, (4, 4, 3), generator=source) for _ in range(count)]).byte()


def tinted(count: int, tint: float, rest: float = 1.0) -> Tensor:
    """(count,4,4,3), bytes: noise times ``rest``, with ``tint`` added to blue, green and red in turn."""
    source, made = generator(1, purpose="colours"), []
    for index in range(count):
        pixels = rest * torch.rand(4, 4, 3, generator=source)
        pixels[..., 2 - index % 3] += tint
        made.append((255 * pixels.clamp(0, 1)).byte())
    return torch.stack(made)


def write_pictures(folder: Path, pictures: Tensor, classes: Sequence[str] = ("a", "b"), digits: int = 2) -> Path:
    """FOLDER/CLASS/00.png and on, of the classes in turn; without classes FOLDER/00.png. Returns the folder."""
    for index, pixels in enumerate(pictures):
        file = folder / (classes[index % len(classes)] if classes else "") / f"{index:0{digits}d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(file)
    return folder
