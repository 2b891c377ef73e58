"""The layers of a model as a table: what each is called, what it is, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

from bothways.brief import shown
from bothways.models.adapter import Adapter
from bothways.numerics.modules import parts_of
from bothways.types import UserError


@dataclass(frozen=True)
class LayerRow:
    """A layer of a model.

    name: its dotted name, as ``--layer`` takes it. kind: the class of its module. shape: of what it gives for one
    picture of the stated size, (C,H,W), (N,C) or (C,); () where it gives nothing that can be drawn. parameters: how
    many numbers are learned in it and in the layers inside it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int

    @property
    def channels(self) -> int:
        """How many channels it has; 0 where it gives nothing that can be drawn. Tokens (N,C) have theirs last."""
        return (self.shape[0] if len(self.shape) == 3 else self.shape[-1]) if self.shape else 0


def layers(model: Adapter) -> list[LayerRow]:
    """Every layer of a model in the order of its modules, by one forward pass of a grey picture.

    Raises UserError for what is no loaded model, and where it cannot be run, RunError where no memory is left.
    """
    if not isinstance(model, Adapter):
        raise UserError(f"layers: model is {shown(model)}; give what load_model returns")
    shapes = model.shapes()
    return [
        LayerRow(name, type(part).__name__, shapes.get(name, ()), sum(value.numel() for value in part.parameters()))
        for name, part in parts_of(model.module).items()
        if name
    ]
