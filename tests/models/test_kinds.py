"""Models of other libraries by their address, each beside its library's own forward on its own preprocessing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from bothways import ModelSpec, UserError, load_model
from bothways.numerics.draws import Draws
from bothways.synthesis.objectives.terms import vectors
from bothways.types import TextModel
from zoo import CLASSES, CLASSIFIERS, MEAN, NAMES, SIZE, STD, WITH_TEXT, ZOO, need, saved, seeded

Zoo = Callable[[str], str]
OTHERS = [kind for kind in ZOO if kind != "user"]
TRANSFORMERS = [kind for kind in OTHERS if kind not in ("timm", "open_clip")]
CLOSE = 1e-5


def pictures(n: int = 2) -> Tensor:
    """(n,3,32,32), whole bytes over 255."""
    return (255 * Draws(range(n)).uniform((3, SIZE, SIZE))).round() / 255


def as_files(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy()) for image in images]


def folder_of(address: str) -> Path:
    return Path(address.rpartition(":")[2])


def copied(address: str, to: Path) -> Path:
    shutil.copytree(folder_of(address), to, dirs_exist_ok=True)
    return to


def changed(folder: Path, file: str = "preprocessor_config.json", **changes: Any) -> str:
    """Some lines of a JSON file set, or taken out where None."""
    facts = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))
    return f"hf:{folder}"


def processed(folder: Path, images: Tensor, **options: Any) -> Tensor:
    """What the library's own image processor makes of the files, at the size they have."""
    processor = need("vit").AutoImageProcessor.from_pretrained(folder)
    options = {"do_resize": False, "do_center_crop": False, **options}
    options = {key: value for key, value in options.items() if hasattr(processor, key)}
    return processor(images=as_files(images), return_tensors="pt", **options)["pixel_values"]


def by_transformers(folder: Path, images: Tensor) -> Tensor:
    transformers = need("vit")
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    net, pixels = getattr(transformers, name).from_pretrained(folder).eval(), processed(folder, images)
    if name in ("CLIPModel", "SiglipModel"):
        return net.get_image_features(pixels).pooler_output
    said = net(pixels)
    if name == "DetrForObjectDetection":
        return torch.cat([said.logits, said.pred_boxes], dim=2).flatten(1)
    return said.logits if "logits" in said else said.last_hidden_state.flatten(1)


def by_timm(folder: Path, images: Tensor) -> Tensor:
    timm = need("timm")
    module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    steps = timm.data.create_transform(**timm.data.resolve_model_data_config(module)).transforms
    return module(torch.stack([steps[-1](steps[-2](file)) for file in as_files(images)]))  # to a tensor, normalised


def by_open_clip(folder: Path, images: Tensor) -> Tensor:
    module, _, transform = need("open_clip").create_model_and_transforms(f"local-dir:{folder}")
    return module.eval().encode_image(torch.stack([transform(file) for file in as_files(images)]))


# ---- outputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHERS)
@torch.no_grad()
def test_outputs_are_the_librarys_own(zoo: Zoo, kind: str) -> None:
    model, theirs = load_model(zoo(kind)), {"timm": by_timm, "open_clip": by_open_clip}.get(kind, by_transformers)
    images = pictures()
    expected = theirs(folder_of(zoo(kind)), images)
    found = model.outputs(images)
    assert found.shape == expected.shape
    assert (found[0] - found[1]).abs().max() > 1e-2  # it looks at the picture
    assert (found - expected).abs().max() < CLOSE


@pytest.mark.parametrize(
    "changes",
    [
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False, "image_mean": [120.0, 110.0, 100.0], "image_std": [60.0, 50.0, 70.0]},
        {"do_normalize": False},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 2.0]},
    ],
)
@torch.no_grad()
def test_a_picture_is_seen_as_the_preprocessor_states(zoo: Zoo, tmp_path: Path, changes: dict[str, Any]) -> None:
    address = changed(copied(zoo("vit"), tmp_path), **changes)
    images = pictures()
    assert (load_model(address).outputs(images) - by_transformers(tmp_path, images)).abs().max() < 5e-5


@torch.no_grad()
def test_a_processor_in_a_file_of_its_own_layout_is_read(zoo: Zoo, tmp_path: Path) -> None:
    """The library writes image processor and tokenizer of CLIP into one processor_config.json."""
    transformers, folder = need("clip"), copied(zoo("clip"), tmp_path)
    expected = load_model(f"clip:{folder}").spec
    images = transformers.AutoImageProcessor.from_pretrained(folder)
    (folder / "preprocessor_config.json").unlink()
    transformers.CLIPProcessor(images, transformers.AutoTokenizer.from_pretrained(folder)).save_pretrained(folder)
    assert "image_processor" in json.loads((folder / "processor_config.json").read_text())
    assert load_model(f"clip:{folder}").spec == expected


SIZES = [
    ({"size": 24}, (24, 24)),
    ({"size": {"height": 24, "width": 16}}, (24, 16)),
    ({"size": {"shortest_edge": 40}}, (40, 40)),
    ({"size": 40, "crop_size": 24, "do_center_crop": True}, (24, 24)),
    ({"size": 24, "crop_size": 40, "do_center_crop": False}, (24, 24)),
    ({"size": {"shortest_edge": 40}, "crop_size": {"height": 16, "width": 24}, "do_center_crop": True}, (16, 24)),
]


@pytest.mark.parametrize(("changes", "size"), SIZES)
def test_the_size_is_that_of_the_crop_or_of_the_picture(zoo: Zoo, tmp_path: Path, changes: Any, size: Any) -> None:
    assert load_model(changed(copied(zoo("convnext"), tmp_path), **changes)).spec.size == size


@pytest.mark.parametrize("kind", OTHERS)
def test_the_spec_states_what_the_files_state(zoo: Zoo, kind: str) -> None:
    spec = load_model(zoo(kind)).spec
    assert (spec.height, spec.width) == (SIZE, SIZE)
    assert torch.tensor(spec.mean).sub(torch.tensor(MEAN)).abs().max() < 1e-7
    assert torch.tensor(spec.std).sub(torch.tensor(STD)).abs().max() < 1e-7
    assert spec.classes == (NAMES if kind in CLASSIFIERS else 0)
    assert spec.source.startswith(("hf:", "timm:", "open_clip:"))


def test_channels_may_be_flipped_and_classes_only_counted(zoo: Zoo, tmp_path: Path) -> None:
    folder = copied(zoo("vit"), tmp_path)
    changed(folder, do_flip_channel_order=True)
    assert load_model(f"hf:{folder}").spec.channel_order == "BGR"
    timm_folder = copied(zoo("timm"), tmp_path / "timm")
    changed(timm_folder, "config.json", label_names=None)
    assert load_model(f"timm:{timm_folder}").spec.classes == CLASSES


def test_imagenet_has_its_names(tmp_path: Path) -> None:
    timm = need("timm")
    size = {"img_size": SIZE, "patch_size": 16, "embed_dim": 8, "depth": 1, "num_heads": 1}
    module = seeded(lambda: timm.create_model("vit_tiny_patch16_224", **size))
    facts = {"input_size": (3, SIZE, SIZE)}
    timm.models.save_for_hf(module, tmp_path, model_config=facts, model_args=size, safe_serialization=True)
    spec = load_model(f"timm:{tmp_path}").spec
    assert spec.count == 1000
    assert spec.class_name(0) == "tench, Tinca tinca"


def test_timm_takes_weights_of_ones_own(tmp_path: Path) -> None:
    timm = need("timm")
    from safetensors.torch import save_file

    module = seeded(lambda: timm.create_model("test_resnet.r160_in1k", num_classes=CLASSES))
    save_file(module.state_dict(), tmp_path / "mine.safetensors")
    spec = ModelSpec(SIZE, (0, 0, 0), (1, 1, 1), NAMES)
    model = load_model("timm:test_resnet", spec, weights=tmp_path / "mine.safetensors")
    assert (model.outputs(pictures()) - module(pictures())).abs().max() < CLOSE


def test_half_precision_is_widened(zoo: Zoo, tmp_path: Path) -> None:
    folder = copied(zoo("vit"), tmp_path)
    need("vit").ViTForImageClassification.from_pretrained(folder, dtype=torch.float16).save_pretrained(folder)
    model = load_model(f"hf:{folder}")
    assert {value.dtype for value in model.parameters().values()} == {torch.float32}
    assert (model.outputs(pictures()) - load_model(zoo("vit")).outputs(pictures())).abs().max() < 1e-2


# ---- features ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in CLASSIFIERS if kind != "user"])
def test_the_head_makes_the_logits_of_the_features(zoo: Zoo, kind: str) -> None:
    model = load_model(zoo(kind))
    layer = model.spec.feature_layer
    seen = model.features(pictures(), [layer, "outputs"])
    head = model.module.get_submodule(layer.removesuffix(":input"))
    assert model.head()[0] == layer
    assert (head(vectors(seen[layer], layer)) - seen["outputs"]).abs().max() < CLOSE


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("dinov2", (17, 16)), ("detr", (6, 16)), ("clip", (17, 16)), ("siglip", (16, 16)), ("open_clip", (17, 16))],
)
def test_the_features_of_the_others_are_tokens(zoo: Zoo, kind: str, shape: tuple[int, int]) -> None:
    model = load_model(zoo(kind))
    layer = model.spec.feature_layer
    seen = model.features(pictures(), [layer, "outputs"])
    assert seen[layer].shape == (2, *shape)
    assert (vectors(seen[layer], layer) - seen[layer].mean(1)).abs().max() < 1e-6
    if kind == "dinov2":
        assert torch.equal(seen[layer].flatten(1), seen["outputs"])


@pytest.mark.parametrize("kind", ["resnet", "convnext"])
def test_a_network_without_its_head_gives_its_map(tmp_path: Path, zoo: Zoo, kind: str) -> None:
    transformers = need(kind)
    whole = transformers.AutoModelForImageClassification.from_pretrained(folder_of(zoo(kind)))
    address = saved(tmp_path, whole.base_model, "ConvNextImageProcessor")
    model = load_model(address)
    found = model.features(pictures(), ["features", "outputs"])
    assert model.spec.classes == 0
    assert found["features"].ndim == 4
    assert torch.equal(found["features"].flatten(1), found["outputs"])


# ---- text ----------------------------------------------------------------------------------------------------------

PROMPTS = ["a photo of a frog", "the red ship"]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@torch.no_grad()
def test_pictures_and_text_fit_as_transformers_says(zoo: Zoo, kind: str) -> None:
    transformers, folder, model = need(kind), folder_of(zoo(kind)), load_model(zoo(kind))
    net = transformers.AutoModel.from_pretrained(folder).eval()
    padding = {"padding": True} if kind == "clip" else {"padding": "max_length", "max_length": 12}
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(PROMPTS, return_tensors="pt", **padding)
    said = net(**tokens, pixel_values=processed(folder, pictures()))
    rows = model.text(PROMPTS)
    fit = F.normalize(model.outputs(pictures()), dim=1) @ rows.T
    expected = said.logits_per_image if kind == "clip" else said.logits_per_image - net.logit_bias
    assert (rows - said.text_embeds).abs().max() < CLOSE
    assert (fit * net.logit_scale.exp() - expected).abs().max() < 1e-4


@torch.no_grad()
def test_pictures_and_text_fit_as_open_clip_says(zoo: Zoo) -> None:
    library, address = need("open_clip"), zoo("open_clip")
    place = f"local-dir:{folder_of(address)}"
    net, _, transform = library.create_model_and_transforms(place)
    tokens = library.get_tokenizer(place)(PROMPTS)
    image, text, _ = net.eval()(torch.stack([transform(file) for file in as_files(pictures())]), tokens)
    model = load_model(address)
    assert (model.text(PROMPTS) - text).abs().max() < CLOSE
    assert (F.normalize(model.outputs(pictures()), dim=1) - image).abs().max() < CLOSE


@pytest.mark.parametrize("kind", WITH_TEXT)
def test_text_is_rows_of_unit_norm_without_gradient(zoo: Zoo, kind: str) -> None:
    model = load_model(zoo(kind))
    assert isinstance(model, TextModel)
    rows = model.text(PROMPTS)
    assert rows.shape == (2, model.outputs(pictures()).shape[1])
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6
    assert not rows.requires_grad
    assert (rows[0] - rows[1]).abs().max() > 1e-2
    assert (model.text(PROMPTS[0]) - rows[:1]).abs().max() < 1e-6
    assert model.text(["frog " * 50]).shape == rows[:1].shape  # cut at the length that the model reads
    assert not [name for name in model.parameters() if "text" in name]


def test_text_is_refused_where_there_is_none(zoo: Zoo) -> None:
    with pytest.raises(UserError, match=r"reads no text; type one that does, such as clip:ViT-B/32"):
        load_model(zoo("user")).text(["a frog"])
    with pytest.raises(UserError, match="no prompt was given"):
        load_model(zoo("clip")).text([])


# ---- the layout of maps --------------------------------------------------------------------------------------------


def test_maps_come_with_their_channels_in_front(zoo: Zoo) -> None:
    """ConvNeXt holds some maps channels last, some not; here 8 channels of 8 x 8, which their shape does not tell."""
    model = load_model(zoo("convnext"))
    layer, start = "net.convnext.encoder.stages.0.layers.0", "net.convnext.embeddings"
    names = [f"{layer}.dwconv", f"{layer}.layernorm:input", f"{layer}.pwconv1", f"{layer}.pwconv2:input"]
    names += [f"{start}.patch_embeddings", f"{start}.layernorm:input", f"{start}.layernorm", f"{layer}.dwconv:input"]
    maps = model.features(pictures(), names)
    before, inside, wide, after, first, entering, leaving, following = (maps[name] for name in names)
    assert before.shape == (2, 8, 8, 8)
    assert torch.equal(before, inside)
    assert torch.equal(first, entering)
    assert torch.equal(leaving, following)
    assert (F.gelu(wide) - after).abs().max() < 1e-6
    weight, bias = (model.module.get_submodule(f"{layer}.pwconv1").get_parameter(n) for n in ("weight", "bias"))
    norm = model.module.get_submodule(f"{layer}.layernorm")
    expected = F.conv2d(norm(inside.movedim(1, -1)).movedim(-1, 1), weight[:, :, None, None], bias)
    assert (wide - expected).abs().max() < CLOSE


def test_tokens_and_whole_maps_stay_as_they_are() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.whole = nn.LayerNorm(3), nn.LayerNorm((3, 8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return self.tokens(self.whole(x).flatten(2).transpose(1, 2)).mean(1)

    model = load_model(Net(), ModelSpec(8, (0, 0, 0), (1, 1, 1), 3))
    seen = model.features(pictures()[..., :8, :8], ["tokens:input", "whole:input"])
    assert seen["tokens:input"].shape == (2, 64, 3)
    assert torch.equal(seen["whole:input"], pictures()[..., :8, :8])


def test_statistics_are_of_layers_with_a_row_for_each_picture() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.patches, self.idle = nn.GroupNorm(1, 3), nn.BatchNorm1d(3), nn.LayerNorm(3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.first(x).flatten(2).transpose(1, 2)
            return self.patches(tokens.flatten(0, 1)).reshape(tokens.shape).mean(1)

    model = load_model(Net(), ModelSpec(8, (0, 0, 0), (1, 1, 1), 3))
    assert model.statistics_layers() == ["first:input"]
    assert model.batch_norm_statistics() == {}


def test_a_vit_says_that_it_takes_its_own_size_alone(zoo: Zoo) -> None:
    model = load_model(zoo("vit"))
    with pytest.raises(UserError, match=r"cannot take 48x48 pictures .*it is stated for 32x32: leave --size out"):
        model.outputs(torch.rand(1, 3, 48, 48))
