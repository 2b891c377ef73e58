"""The judges of what is drawn at 32 px: the bundled networks, and three by other authors and other trainers.

The bundled ones were trained on the same pictures by the same trainer as the network that draws. The three others were
not: the tiniest network (LayerNorm), a ResNet-56 and MLPerf Tiny's ResNet. Their weights are not part of the project;
where they are not on the machine, a line says so and the bundled ones judge alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bothways
from bothways.judging.judges import default_judges
from bothways.judging.references import reference
from bothways.judging.verdicts import Reference
from bothways.models.adapter import Adapter

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OTHERS = {
    "tiniest": f"{EXAMPLES / 'tiniest_cifar10.py'}:build",
    "resnet56": f"{EXAMPLES / 'resnet_cifar10.py'}:resnet56",
    "mlcommons": f"{EXAMPLES / 'mlcommons_cifar10.py'}:build",
}


def others() -> dict[str, Adapter]:
    """{name: judge} of the three whose weights are here."""
    found = {}
    for name, address in OTHERS.items():
        try:
            found[name] = bothways.load_model(address)
        except (bothways.UserError, OSError) as error:
            print(f"{name} does not judge: {error}", flush=True)
    return found


def jury(model: Adapter, more: Sequence[str] = ()) -> dict[str, Adapter]:
    """{name: judge}: the bundled ones that did not draw, the three others, and ``more`` addresses."""
    found = {address.removeprefix("bundled:"): bothways.load_model(address) for address in default_judges(model)}
    return found | others() | {address: bothways.load_model(address) for address in more}


def references_of(judges: Sequence[Adapter], data: Path | None) -> dict[str, Reference | None]:
    """Real pictures by the judge's name: those kept with a bundled one, else of ``data``; None without either."""
    return {judge.name: reference(judge, None) or (data and reference(judge, data)) for judge in judges}
