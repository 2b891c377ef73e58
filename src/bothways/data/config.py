"""The settings that say which pictures of a data set are read, as every task names them."""

from __future__ import annotations

HELD_OUT = "held-out"  # in place of a split: the pictures that a run kept out of its training
MEASURED = (
    "split of the data: train, test, ..., or held-out (the holdout of the training run); if unset, test or validation, "
    "else held-out, else all"
)
READ = "split of the data: train, test, ...; if unset, train, or all of data without splits"
COMPARED = "split of the data: train, test, ...; if unset, test or validation, else all"
