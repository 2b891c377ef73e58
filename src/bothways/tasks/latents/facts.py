"""What the latents of a flow are, by which latents on disk are known to be its own."""

from __future__ import annotations

from bothways.data.readers.latents import LatentFacts
from bothways.models.velocity import Flow
from bothways.runs.provenance import fingerprint


def latent_facts(flow: Flow) -> LatentFacts | None:
    """The shape of a flow's latents and the digest of its autoencoder; None of a flow on pictures."""
    return None if flow.latents is None else LatentFacts(flow.shape, fingerprint(flow.latents))
