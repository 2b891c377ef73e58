"""Run folders: settings, pictures, measures and checkpoints of a run on disk."""

from bothways.runs.files import from_png, to_png
from bothways.runs.folder import PHOTOS, RunFolder

ALONG = "along.jsonl"  # measures of a flow at the checkpoints of its training

__all__ = ["ALONG", "PHOTOS", "RunFolder", "from_png", "to_png"]
