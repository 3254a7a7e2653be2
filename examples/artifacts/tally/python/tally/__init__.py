"""Counts the words of a text."""

from .native import lib


def words(text):
    data = text.encode()
    return lib.tally_words(data, len(data))
