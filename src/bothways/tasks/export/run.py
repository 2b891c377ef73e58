"""Write a flow-based classifier or feature extractor in a form that loads without bothways.

config.json           the facts: size, classes, preprocessing, what is read, the times of the walk, the network
model.safetensors     the weights of module, hub-folder and safetensors+json: network.*, head.*, noise
model.py, README.md   of module and hub-folder
model.onnx, model.pt2 of onnx and torch-export, weights within
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import save
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.models.cards import ClassifierCard, read_card
from bothways.models.catalogue import find_classifier
from bothways.models.classifiers import Classifier, PictureClassifier, card_of_flow, origin_of
from bothways.models.loader import load_flow, load_model
from bothways.models.nets.unet import SIZES, UNet
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws
from bothways.numerics.solvers import grid, only_x, solver_of
from bothways.reading import is_folder, is_there, read_text
from bothways.registry import name_of, names
from bothways.representation.activations import layer_module, middle_layer
from bothways.representation.classifier import FlowClassifier
from bothways.representation.encode import Walk, image_time
from bothways.representation.features import Features, features
from bothways.representation.tuning.targets import NUMBERS
from bothways.runs.experiment import Experiment
from bothways.runs.files import json_line
from bothways.runs.inventory import PARTIAL
from bothways.tasks.export.config import ExportConfig
from bothways.tasks.export.onnx import by_onnxruntime
from bothways.tasks.export.result import ExportedFiles
from bothways.tasks.export.source import HEADS, module_text, readme_text
from bothways.tasks.export.standalone import Exported
from bothways.tasks.work import Where, Work, write_file
from bothways.types import Frame, RunError, UserError
from bothways.version import __version__

APART = 1e-4  # of the largest output: a difference to the run that rounding does not explain
TRIED = 3  # pictures on which both are compared
MARK = '"bothways"'  # in a config.json of ours
NEEDS = {"onnx": ("onnx", "onnxscript")}
WRITTEN = ("config.json", "model.safetensors", "model.py", "README.md", "model.onnx", "model.pt2")


@final
@dataclass
class ExportWork(Work):
    """model: what is written. ours: pictures (B,3,H,W) -> what the run gives. files: name -> its content."""

    config: ExportConfig
    model: Exported
    ours: Callable[[Tensor], Tensor]
    out: Path
    title: str
    solver: Any
    experiment: Experiment = field(default_factory=Experiment)
    apart: float = 0.0
    by_onnxruntime: float | None = None
    doing = "exporting"
    done_word = "exported"

    @property
    def steps(self) -> int:
        return 1

    @torch.no_grad()
    def frames(self) -> Iterator[Frame]:
        """Compare, write, and yield a frame. Raises RunError where the two differ."""
        images = Draws(range(TRIED)).uniform((3, *self.model.facts["size"]))
        wanted = self.ours(images)
        self.apart = self._apart(self.model(images), wanted)
        files = self._files(images, wanted)
        for name in set(WRITTEN) - {"config.json"}:  # an earlier export's, which would not go with the new facts
            (self.out / name).unlink(missing_ok=True)
        for name, content in files.items():
            write_file(self.out / name, content)
        self.names = tuple(files)
        yield Frame(1, 1.0, None, {"apart": self.apart})

    def _apart(self, found: Tensor, wanted: Tensor) -> float:
        """The largest difference. Raises RunError where rounding does not explain it."""
        apart = float((found - wanted).abs().max())
        if not apart <= APART * max(1.0, float(wanted.abs().max())):
            raise RunError(f"what would be written differs from {self.title} by {apart:.2g}; type another form of --to")
        return apart

    def _files(self, images: Tensor, wanted: Tensor) -> dict[str, bytes]:
        facts, to = self.model.facts, self.config.to
        files = {"config.json": json_line(facts)}
        if to == "onnx":
            files["model.onnx"] = self._onnx(images, wanted)
        elif to == "torch-export":
            content = BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of convolutions that lie channels last, which are read as they lie
                torch.export.save(_traced(self.model, images), content)
            content.seek(0)
            self._apart(torch.export.load(content).module()(images[:2]), wanted[:2])
            files["model.pt2"] = content.getvalue()
        else:
            files["model.safetensors"] = save({k: v.contiguous() for k, v in self.model.state_dict().items()})
        if to in ("module", "hub-folder"):
            files["model.py"] = module_text(facts, self.title, str(self.out), self.solver).encode()
        if to == "hub-folder":
            files["README.md"] = readme_text(facts, Path(self.title).name).encode()
        return files

    def _onnx(self, images: Tensor, wanted: Tensor) -> bytes:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")  # of the converter's own parts
            made: Any = torch.onnx.export(
                _traced(self.model, images), input_names=["images"], output_names=[self.model.facts["output"]],
                dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},),  # named
            )  # fmt: skip
            made.save(Path(folder) / "model.onnx", external_data=False)
            content = (Path(folder) / "model.onnx").read_bytes()
            if (found := by_onnxruntime(content, images[:2])) is not None:
                self.by_onnxruntime = self._apart(found, wanted[:2])
        return content

    def measures(self) -> dict[str, Any]:
        return {}

    def result(self, measures: dict[str, Any]) -> ExportedFiles:
        return ExportedFiles(self.out, self.names, self.apart, self.by_onnxruntime)

    def summary(self, result: ExportedFiles, out: Path | None) -> Iterator[str]:
        yield f"{', '.join(result.files)} in {result.folder}"
        yield f"the largest difference from the run is {result.apart:.1g}, on {TRIED} random pictures"
        if result.onnxruntime is not None:
            yield f"by onnxruntime {result.onnxruntime:.1g} from it"

    def page(self, out: Path | None) -> None:
        """None: the task writes files without a report."""


def prepare(config: ExportConfig, where: Where) -> ExportWork:
    """Prepare an export. Raises UserError for invalid input, before anything is written."""
    out = _folder(where)
    for package in NEEDS.get(config.to, ()):
        if find_spec(package) is None:
            raise UserError(f'--to {config.to} needs {package}; type pip install "bothways[onnx]"')
    classifier, flow, spec = _loaded(config.run)
    if flow.latents is not None:
        raise UserError(f"run {flow.name!r} is on latents of an autoencoder, which is not exported; type another run")
    how = _features(config, flow) if classifier is None else classifier.how
    if classifier is not None and how.walks and how.walk.adaptive:  # no flag of an export changes how a run walks
        raise UserError(
            f"run {flow.name!r} walks by {how.walk.name}, in steps of its own; type a run of --solver euler"
        )
    output = config.output or ("features" if classifier is None else "logits")
    if classifier is None and output == "logits":
        raise UserError(f"run {flow.name!r} is a flow without a head; type --output features")
    noise = None if classifier is None else classifier.noise
    head = classifier.head if classifier is not None and output == "logits" else None
    facts, solver = _facts(flow, how, noise, _title(config.run)), solver_of(how.walk.solver)
    with torch.no_grad():
        entering = features(flow, flow.path, flow.code(torch.zeros(1, 3, *facts["size"])), how, noise)
    facts |= {"width": entering.shape[1], "output": output, "head": None, "outputs": entering.shape[1], "classes": None}
    facts |= {"target": None, "shift": None, "scale": None}
    if head is not None:
        assert classifier is not None
        facts |= {"head": _head_name(config.run), "outputs": spec.count, "classes": spec.classes}
        facts["target"] = classifier.target
        if classifier.target == NUMBERS:
            facts |= {"shift": classifier.shift.tolist(), "scale": classifier.scale.tolist()}
    network = copy.deepcopy(flow.network).eval().requires_grad_(False)
    start = None if solver.start is only_x else solver.start
    model = Exported(network, copy.deepcopy(head), facts, solver, start, noise).eval().requires_grad_(False)
    if config.to in ("module", "hub-folder"):
        _check_code(model, how, facts)

    def ours(images: Tensor) -> Tensor:
        x = flow.code(images)
        return features(flow, flow.path, x, how, noise) if head is None or classifier is None else classifier(x)

    made = config.model_copy(update={"output": output})
    return ExportWork(made, model, ours, out, _title(config.run), solver if how.walks else None)


def _folder(where: Where) -> Path:
    if where.out is None:
        raise UserError("export: give out=FOLDER")
    out = Path(where.out)
    if is_folder(out) and any(file.suffix != PARTIAL for file in out.iterdir()):  # a kill leaves one
        ours = is_there(out / "config.json") and MARK in read_text(out / "config.json")
        if not ours:
            raise UserError(f"--out {out}: is there, and no export of bothways; type another folder")
        if not where.overwrite:
            raise UserError(f"--out {out} is there already; type --overwrite, or another folder")
    elif out.exists() and not is_folder(out):
        raise UserError(f"--out {out}: is a file; type the name of a folder")
    return out


def _title(run: Any) -> str:
    return str(run) if isinstance(run, str | Path) else str(getattr(run, "name", type(run).__name__))


def _loaded(run: Any) -> tuple[FlowClassifier | None, Flow, Any]:
    """(classifier or None, flow, ModelSpec) of a run or of what was loaded of it."""
    run = run.adapter if isinstance(run, Classifier) else run
    if not isinstance(run, Adapter | nn.Module) and find_classifier(str(run)) is not None:
        run = load_model(run)
    if not isinstance(run, Adapter):
        flow = load_flow(run)
        return None, flow, flow.spec
    if not isinstance(run.module, PictureClassifier):
        raise UserError(f"run {run.name!r} is no classifier made of a flow; type a run of bothways finetune, or a flow")
    return run.module.classifier, run.module.flow, run.spec


def _features(config: ExportConfig, flow: Flow) -> Features:
    """The features of a flow without a head."""
    read = config.kind == "activations"
    layers = (config.layer or middle_layer(flow),) if read else ()
    depth: dict[str, Any] = {} if config.depth is None else {"activation_depth" if read else "depth": config.depth}
    made = Features(config.kind, walk=Walk(config.steps, config.solver), layers=layers, **depth)
    made.check(flow)
    return made


def _facts(flow: Flow, how: Features, noise: Tensor | None, title: str) -> dict[str, Any]:
    """What config.json holds, but for what is given out."""
    spec, start = flow.spec, image_time(flow)
    end = min(start, 1.0 - how.depth)
    depth = torch.tensor([1.0 - how.activation_depth], dtype=torch.float64)
    modules = {id(module): name for name, module in flow.network.named_modules()}
    options = _network_options(flow, title)
    return {
        "bothways": __version__,
        "size": [spec.height, spec.width],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channel_order": spec.channel_order,
        "crop": spec.crop,
        "interpolation": spec.interpolation,
        "time_scale": spec.time_scale or 1.0,
        "time_first": spec.time_first,
        "kind": how.kind,
        "solver": name_of(how.walk.solver),
        "times": [start] if start == end or not how.walks else grid(start, end, how.walk.steps),
        "layers": [modules[id(layer_module(flow, layer))] for layer in how.layers] if how.reads_activations else [],
        "read_time": 1.0 - how.activation_depth,
        "signal": None if noise is None else [float(part) for part in flow.path(depth)[:2]],
        "network": {**SIZES.get(options.pop("name", ""), {}), **options},
    }


def _network_options(flow: Flow, title: str) -> dict[str, Any]:
    """The options of a U-Net of bothways, from its card; none of another network."""
    if not isinstance(flow.network, UNet):
        return {}
    if (card := card_of_flow(title)) is not None:
        return dict(card.get("network") or {})
    return dict(origin_of(flow).get("network") or {}) if ":" in flow.name else {}


def _head_name(run: Any) -> str:
    file = find_classifier(_title(run))
    return "" if file is None else str(read_card(file, ClassifierCard)["head"])


def _check_code(model: Exported, how: Features, facts: dict[str, Any]) -> None:
    """Raise UserError for what model.py has no source of."""
    other = "type --to onnx, torch-export or safetensors+json"
    if not isinstance(model.network, UNet) or not facts["network"]:
        raise UserError(
            f"--to module: the network is a {type(model.network).__name__}, not a U-Net of bothways; {other}"
        )
    if model.head is not None and facts["head"] not in HEADS:
        raise UserError(f"--to module: head {facts['head']!r} is not one of {', '.join(HEADS)}; {other}")
    if how.walks and (model.start is not None or name_of(how.walk.solver) not in names("solver")):
        raise UserError(f"--to module: solver {name_of(how.walk.solver)!r} is not of one step and ours; {other}")


def _traced(model: Exported, images: Tensor) -> Any:
    """The program of torch.export, for batches of any size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False)
