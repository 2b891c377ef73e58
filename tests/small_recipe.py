"""The recipe of a network that is planned and trained in a moment: a U-Net of 8 x 8 grey pictures."""

from __future__ import annotations

SMALL = """# a small U-Net of 8 x 8 grey pictures
task = "pretrain"
[network]
builder = "unet"
width = 16
multiples = [1]
blocks = 1
attention = [1]
[fit]
steps = 20
batch = 16
[expect]
pictures = 600
size = 8
channels = 1
classes = 10
finetune = "prg-small"
"""
WITHOUT_ATTENTION = SMALL.replace("attention = [1]", "attention = []")
