"""A small web service: which items of a catalogue are nearest to a vector?"""

from app.service import app

__all__ = ["app"]
