"""Builds container images from lock files, without a Docker daemon.

>>> import imgforge
>>> config = imgforge.Config.load("images.toml", offline=True)
>>> config.images
('devel', 'runtime')

A `Config` is an images.toml, read and checked. It plans, builds and pushes what the program ``imgforge`` does, with the
same bytes. Every failure is an `Error` with a kind, a message and a hint.
"""

from imgforge._errors import (
    BuildError,
    ConfigError,
    Error,
    FetchError,
    LockError,
    OutputError,
    RegistryError,
    ResolveError,
    StoreError,
)
from imgforge._imgforge import (
    Change,
    Config,
    Conflict,
    Image,
    Layer,
    Package,
    Plan,
    PlannedArtifact,
    PlannedImage,
    PlannedLayer,
    Progress,
    Pushed,
    Resolution,
    Shipment,
    __version__,
    read_lock,
    resolve,
    solve,
)

__all__ = [
    "BuildError",
    "Change",
    "Config",
    "ConfigError",
    "Conflict",
    "Error",
    "FetchError",
    "Image",
    "Layer",
    "LockError",
    "OutputError",
    "Package",
    "Plan",
    "PlannedArtifact",
    "PlannedImage",
    "PlannedLayer",
    "Progress",
    "Pushed",
    "RegistryError",
    "Resolution",
    "ResolveError",
    "Shipment",
    "StoreError",
    "__version__",
    "read_lock",
    "resolve",
    "solve",
]
