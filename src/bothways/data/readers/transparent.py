"""What stands behind the clear parts of a picture, the same wherever one is read: white, as on a page.

    shown = a colour + (1 - a) behind

Behind a mask stands black: what is clear in it is not painted, and so is kept.
"""

from __future__ import annotations

from PIL import Image
from torch import Tensor

WHITE, BLACK = 255, 0


def opaque(picture: Image.Image, behind: int = WHITE) -> Image.Image:
    """A picture of 8 bits a channel as RGB. behind: the grey level, 0 to 255, behind what is clear."""
    if not picture.has_transparency_data:  # of a channel, of a palette, or of one colour
        return picture.convert("RGB")
    layers = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    ground = Image.new("RGB", layers.size, (behind,) * 3)
    ground.paste(layers, mask=layers)
    return ground


def opaque_pixels(images: Tensor, behind: int = WHITE) -> Tensor:
    """(B,3,H,W) of (B,C,H,W) in [0,1] with C = 1 (grey), 3, or 4 (RGB and alpha)."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] == 3:
        return images
    alpha = images[:, 3:]
    return images[:, :3] * alpha + (1 - alpha) * (behind / 255)
