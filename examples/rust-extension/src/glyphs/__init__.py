"""Counts what people take for letters."""

from glyphs._core import PROFILE, count

__all__ = ["PROFILE", "count", "longest"]


def longest(text: str) -> str:
    """The word of the text that has the most of them."""
    return max(text.split(), key=count, default="")
