"""The initial weights of a pretraining from another flow: those that are alike by name and shape."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bothways.models.velocity import Flow
from bothways.types import UserError

NAMED = 3  # tensors of a kind that the line names


def warm_start(network: nn.Module, flow: Flow) -> str:
    """Load what fits of a flow's weights into a network, and return a line that says what was and what was not.

    A tensor fits one of the same name and shape. Raises UserError if none does.
    """
    own, other = network.state_dict(), flow.network.state_dict()
    same = {name: value for name, value in other.items() if name in own and value.shape == own[name].shape}
    shaped = [f"{name} {_shape(other[name])} for {_shape(own[name])}" for name in own if name in other.keys() - same]
    if not same:
        near = f"; of another shape: {_some(shaped)}" if shaped else f"; it has {_some(list(other))}"
        raise UserError(f"--init {flow.name}: none of its tensors has a name and shape of the network's{near}")
    network.load_state_dict(same, strict=False)
    count, total = (sum(value.numel() for value in tensors.values()) for tensors in (same, own))
    line = f"initial weights: {len(same)} of {len(own)} tensors ({count / total:.1%} of all numbers) from {flow.name}"
    kinds = {
        "new": [name for name in own if name not in other],
        "new, of another shape": shaped,
        "not taken": [name for name in other if name not in own],
    }
    return line + "".join(f"; {kind}: {_some(names)}" for kind, names in kinds.items() if names)


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "a number"


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
