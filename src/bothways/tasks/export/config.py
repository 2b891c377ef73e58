"""The settings of ``export``."""

from __future__ import annotations

from typing import ClassVar, Literal

from bothways.configs import Config, Live, chosen, setting
from bothways.registry import register


@register("task", "export", help="Write a classifier or feature extractor that loads without bothways.")
class ExportConfig(Config):
    """Write a run of finetune, or a flow as a feature extractor, in a form that loads without bothways.

    The walk is unrolled at its steps. What is written maps pictures (B,3,H,W) in [0,1], of the size in config.json, to
    logits (B,K), or to features (B,D). It is compared with the run on random pictures before anything is written.

    module             model.py, which needs torch and safetensors alone, with config.json and model.safetensors
    hub-folder         the same with a README.md, as the Hugging Face hub shows it
    safetensors+json   weights and facts alone
    onnx               model.onnx, for batches of any size; needs onnx and onnxscript
    torch-export       model.pt2, for torch.export.load, for batches of any size

    Examples
    bothways export runs/walked --to module --out exported
    bothways export runs/walked --to onnx --out exported
    bothways export bundled:cifar10-flow --to torch-export --steps 5 --depth 0.5 --out features
    """

    gives: ClassVar[str] = "an ExportedFiles: folder, files, and apart, the largest difference to the run"
    reports: ClassVar[bool] = False
    file: ClassVar[str] = "runs/export"

    run: Live = setting(..., "A run of finetune, or a flow.", argument=True, metavar="RUN")
    to: Literal["module", "safetensors+json", "onnx", "torch-export", "hub-folder"] = setting(
        "module", "form: module, safetensors+json, onnx, torch-export or hub-folder", common=True
    )
    output: Literal["logits", "features"] | None = setting(
        None, "what it gives: logits, or features (the input of the head); if unset, logits where there is a head",
        common=True,
    )  # fmt: skip
    kind: Literal["walked", "activations"] = setting("walked", "features of a flow: walked or activations", common=True)
    depth: float | None = setting(
        None, "depth of a flow's features, 0 (picture) to 1 (noise); if unset, .5 walked, .1 activations", ge=0, le=1
    )
    steps: int = setting(5, "solver steps of a flow's walk", ge=1)
    solver: chosen("solver") = setting("euler", "ODE solver of a flow's walk")  # type: ignore[valid-type]
    layer: str | None = setting(None, "layer of a flow's activations; if unset, the middle of a bothways U-Net")
