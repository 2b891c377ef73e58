"""The result of ``export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.brief import Brief


@dataclass(frozen=True, repr=False)
class ExportedFiles(Brief):
    """What was written. files: by name, in ``folder``. apart: the largest difference to the run on random pictures.

    onnxruntime: that of the ONNX file as onnxruntime computes it; None where it was not run.
    """

    folder: Path
    files: tuple[str, ...]
    apart: float
    onnxruntime: float | None = None

    @property
    def measures(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "files": list(self.files),
            "apart": self.apart,
            "onnxruntime": self.onnxruntime,
        }
