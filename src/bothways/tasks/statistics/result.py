"""The result of ``statistics``: what other tasks take as data in place of pictures."""

from bothways.data.statistics import Statistics

__all__ = ["Statistics"]
