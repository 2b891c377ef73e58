"""Accuracy of a fine-tuned flow against the parameters that are trained, and against its calls of the network.

    python benchmarks/tuning.py --data path/to/cifar10 --labels 500 --seeds 0 1 2
    python benchmarks/tuning.py --data ... --labels 5000 --seeds 0 1 2 --device cuda --processes 6 --minutes 9
    python benchmarks/tuning.py --table

A set of arms of prg_controls.py, with its protocol: every arm of a seed sees the same labelled pictures in the same
batches, with the same augmentation and optimiser, without the flow's own loss, at the rate of three that the pictures
held out choose for it. Other options, and what a row holds: prg_controls.py --help.

Rows: tuning.csv below --results.
"""

from prg_controls import main

if __name__ == "__main__":
    main("tuning", __doc__)
