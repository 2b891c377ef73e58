"""SqueezeNet 1.1 (ImageNet, Caffe release): bothways generate examples/squeezenet.py:build --class 107 --recipe das"""

# fmt: off
from collections import OrderedDict
from pathlib import Path

from safetensors.torch import load_file
from torch import cat, nn

from bothways import ModelSpec
WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights" / "squeezenet1_1-imagenet.safetensors"
class Fire(nn.Module):
    def __init__(self, wide, thin, out):
        super().__init__()
        self.squeeze, self.expand1x1, self.expand3x3 = nn.Conv2d(wide, thin, 1), nn.Conv2d(thin, out, 1), nn.Conv2d(thin, out, 3, 1, 1)
    def forward(self, x):
        return cat([self.expand1x1(x := self.squeeze(x).relu()).relu(), self.expand3x3(x).relu()], 1)
def build():
    pool, fires = nn.MaxPool2d(3, 2, ceil_mode=True), [(64, 16, 64), (128, 16, 64), 0, (128, 32, 128), (256, 32, 128), 0, (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256)]
    body = nn.Sequential(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool, *(Fire(*fire) if fire else pool for fire in fires))
    head = nn.Sequential(nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    module = nn.Sequential(OrderedDict(features=body, classifier=head))
    module.load_state_dict(load_file(WEIGHTS))
    mean = [value / 255 for value in (104, 117, 123)]  # it wants 0..255 less a mean, not divided
    return module, ModelSpec(size=224, mean=mean, std=[1 / 255] * 3, classes="imagenet", channel_order="BGR", feature_layer="features")
