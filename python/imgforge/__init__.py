"""Builds container images from lock files, without a Docker daemon."""

from imgforge._imgforge import __version__

__all__ = ["__version__"]
