"""The result of ``statistics``: what other tasks take as data in place of pictures."""

from bothways.data.splits import Statistics

__all__ = ["Statistics"]
