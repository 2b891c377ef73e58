"""A flow as a classifier or feature extractor, with its walk unrolled at its steps. It needs torch alone.

logits = head(f(x)),   f: the picture walked to a depth, activations at a depth, both, or pixels
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

POOLED = 16  # pixels of a side, at most


class Enough(Exception):  # noqa: N818 - not an error: it ends a pass after the last layer that is read
    pass


class Exported(nn.Module):
    """Pictures (B,3,H,W) in [0,1], of the size in ``facts`` -> logits or numbers (B,K), without a head features (B,D).

    network: the velocity, called as (x, time). facts: what config.json holds. step: (velocity, state, t, h) -> the
    state at t + h. start: (velocity, x, t) -> the first state, for a solver that keeps more than x. noise: (1,C,H,W),
    mixed in where activations are read.
    """

    def __init__(self, network, head, facts, step, start=None, noise=None):
        super().__init__()
        self.network, self.head, self.facts, self.step, self.start = network, head, facts, step, start
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(facts[name]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("noise", noise)
        for name in ("shift", "scale"):  # of predicted numbers
            self.register_buffer(name, facts[name] and torch.tensor(facts[name]), persistent=False)

    def forward(self, image):
        features = self.features(image)
        if self.head is None:
            return features
        outputs = self.head(features)
        return outputs if self.facts["scale"] is None else self.shift + self.scale * outputs

    def features(self, image):
        """Features (B,D), the input of the head."""
        x, kind = self.code(image), self.facts["kind"]
        parts = [pooled(x)] if kind == "pixels" else []
        if kind in ("walked", "both"):
            parts.append(pooled(self.walked(x)))
        if kind in ("activations", "both"):
            parts += self.activations(x)
        return torch.cat(parts, 1)

    def code(self, image):
        """The picture in the units of the flow."""
        x = image.flip(1) if self.facts["channel_order"] == "BGR" else image
        x = (x - self.mean) / self.std
        return x.mean(1, keepdim=True) if self.facts["channel_order"] == "grey" else x

    def velocity(self, x, t):
        time = t * self.facts["time_scale"]
        found = self.network(time, x) if self.facts["time_first"] else self.network(x, time)
        return getattr(found, "sample", found)

    def walked(self, x):
        """The picture integrated over the times in ``facts``."""
        times = self.facts["times"]
        state = (x,) if self.start is None else self.start(self.velocity, x, times[0])
        for t, after in pairwise(times):
            state = self.step(self.velocity, state, t, after - t)
        return state[0]

    def activations(self, x):
        """The mean over space of what each layer gives, [(B,D), ...]."""
        seen, layers = {}, self.facts["layers"]

        def keep(name):
            def hook(module, inputs, output):
                seen[name] = output
                if len(seen) == len(set(layers)) and not torch.compiler.is_compiling():  # a trace drops what is unused
                    raise Enough

            return hook

        if self.noise is not None:
            x = self.facts["signal"][0] * x + self.facts["signal"][1] * self.noise
        hooks = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
        try:
            self.velocity(x, x.new_full((x.shape[0],), self.facts["read_time"]))
        except Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return [over_space(seen[name]) for name in layers]


def pooled(x):
    """Average pooling to at most 16 x 16, flattened, (B,C,H,W) -> (B,D)."""
    height, width = x.shape[-2:]
    return F.adaptive_avg_pool2d(x, (min(height, POOLED), min(width, POOLED))).flatten(1)


def over_space(seen):
    """Mean over space of a map (B,D,H,W), over tokens of (B,N,D)."""
    if seen.ndim == 4:
        return seen.mean((2, 3))
    return seen.mean(1) if seen.ndim == 3 else seen


def at_time(x, t):
    """t for each picture, (B,)."""
    return x.new_full((x.shape[0],), t)
