"""The settings that say which pictures of a data set are read, as every task names them."""

from __future__ import annotations

HELD_OUT = "held-out"  # in place of a split: the pictures that a run kept out of its training
MEASURED = (
    "of the data: train, test, ..., or held-out, what the run kept out of its training; none: test or validation, if "
    "any, else held-out, else all"
)
READ = "of the data: train, test, ...; none: train, or all of data without splits"
COMPARED = "of the data: train, test, ...; none: test or validation, if any, else all"
