"""Latents of an autoencoder in place of pictures, as ``bothways latents`` writes them to parquet.

    latent    a list of C h w numbers a row, half or single precision
    "latents" in the JSON under the key "bothways" of the schema: {"shape": [C, h, w], "autoencoder": its digest}

They are read by the flow whose autoencoder made them, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways import budget
from bothways.reading import Checked, table_of
from bothways.types import UserError

KEY, COLUMN, LABEL, FACTS = b"bothways", "latent", "label", "latents"


@dataclass(frozen=True)
class LatentFacts:
    """What latents are. shape: (C, h, w) of one; autoencoder: the digest of what made them."""

    shape: tuple[int, int, int]
    autoencoder: str


class Stated(Checked):
    """The entry of the schema."""

    shape: list[int]
    autoencoder: str


class Described(Checked):
    """The metadata of a file of latents."""

    latents: Stated | None = None
    classes: list[str] | None = None


def stated(schema: Any, where: str) -> tuple[LatentFacts, tuple[str, ...]] | None:
    """(facts, names of the classes) of a file of latents, from its schema; None of any other file.

    Raises UserError for columns that are not as the facts say.
    """
    if KEY not in (schema.metadata or {}) or COLUMN not in schema.names:
        return None
    found = table_of(schema.metadata[KEY], where, Described)
    given: Any = found.get(FACTS)
    if given is None:
        return None
    shape = tuple(given["shape"])
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"data {where!r}: its latents are of shape {shape}, not (C, h, w); make it again")
    _check_columns(schema, prod(shape), where)
    return LatentFacts((shape[0], shape[1], shape[2]), given["autoencoder"]), tuple(found.get("classes") or ())


def _check_columns(schema: Any, numbers: int, where: str) -> None:
    import pyarrow

    kind = schema.field(COLUMN).type
    if not (pyarrow.types.is_fixed_size_list(kind) and pyarrow.types.is_floating(kind.value_type)):
        raise UserError(f"data {where!r}: its column {COLUMN!r} is of {kind}, not lists of numbers; make it again")
    if kind.list_size != numbers:
        raise UserError(f"data {where!r}: its latents have {kind.list_size} numbers, and their shape {numbers}")
    if LABEL in schema.names and not pyarrow.types.is_integer(schema.field(LABEL).type):
        raise UserError(f"data {where!r}: its labels are of {schema.field(LABEL).type}, not whole numbers")


def content_of(row: Any) -> bytes:
    """The numbers of a row of pyarrow, as the bytes of an entry; none of a row without."""
    return row.values.to_numpy(zero_copy_only=False).astype("<f4").tobytes() if row.is_valid else b""


def latent_of(content: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """(C,h,w) float32 of the bytes of an entry. Raises ValueError for another length, and for what is not finite."""
    if len(content) != 4 * prod(shape):
        raise ValueError(f"{len(content)} bytes for a latent of {prod(shape)} numbers")
    found = np.frombuffer(content, "<f4").reshape(shape).copy()
    if not np.isfinite(found).all():
        raise ValueError("a latent that is not finite")
    return found


def read_latents(
    entries: Iterator[tuple[str, bytes, int]], count: int, shape: tuple[int, int, int], address: str
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """(latents (N,C,h,w) float32, labels (N,), names) of ``count`` entries. Raises UserError for a damaged one."""
    budget.check_memory(f"the {count:,} latents of data {address!r}", 4.0 * count * prod(shape), "give fewer of them")
    held, labels, names = np.empty((count, *shape), np.float32), np.empty(count, np.int64), []
    for place, (name, content, label) in enumerate(entries):
        try:
            held[place], labels[place] = latent_of(content, shape), label
        except ValueError as error:
            raise UserError(f"data {address!r}: {name} holds {error}; make it again") from error
        names.append(name)
    if not names:
        raise UserError(f"data {address!r} has no latent; make it again")
    return torch.from_numpy(held), torch.from_numpy(labels), tuple(names)


def check_latents(found: LatentFacts | None, wanted: LatentFacts | None, address: str) -> None:
    """Raise UserError for latents that no flow reads, or that another autoencoder made. found: None for pictures."""
    if found is None or found == wanted:
        return
    told = f"data {address!r} holds latents {found.shape} of an autoencoder ({found.autoencoder})"
    if wanted is None:
        raise UserError(f"{told} and no pictures; finetune and features take them, with the flow that has it")
    raise UserError(
        f"{told}, and the flow takes {wanted.shape} of {wanted.autoencoder}; make them by bothways latents with it"
    )
