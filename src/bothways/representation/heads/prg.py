"""The classification head of PRG: logits = W2 tanh(W1 LayerNorm(f) + b1)."""

from __future__ import annotations

from torch import Tensor, nn

from bothways.registry import register

WIDTH = 768  # of the hidden layer


@register("head", "prg", help="layer norm, a hidden layer of 768 units, tanh, linear without bias", reference="prg")
class PRGHead(nn.Module):
    """Layer norm, a hidden layer of ``width`` with tanh, and a linear layer without bias, (B,D) -> (B,classes).

    Source: PRG, Xue et al. 2024, arXiv 2412.01787, and its code.
    """

    def __init__(self, width_in: int, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        self.norm, self.hidden, self.tanh = nn.LayerNorm(width_in), nn.Linear(width_in, width), nn.Tanh()
        self.out = nn.Linear(width, classes, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.tanh(self.hidden(self.norm(features))))
