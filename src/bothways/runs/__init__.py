"""The run folder: what a run asked, what it drew, how that was measured, and where to go on."""

from bothways.runs.files import from_png, to_png
from bothways.runs.folder import RunFolder

ALONG = "along.jsonl"  # what was measured of a flow along its training
PHOTOS = "photos"  # the folder of what a run was given to look at

__all__ = ["ALONG", "PHOTOS", "RunFolder", "from_png", "to_png"]
