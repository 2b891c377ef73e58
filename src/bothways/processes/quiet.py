"""Libraries that report their use or their errors to their makers are told not to, before they are imported."""

from __future__ import annotations

import os

SETTINGS = {  # of the environment; where one is set already, it stays
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime, which also writes a number of the machine into the home
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_ERROR_REPORTING": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
}


def keep_quiet() -> None:
    """Set the environment of this process, and of those that it starts, so that nothing is sent."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
