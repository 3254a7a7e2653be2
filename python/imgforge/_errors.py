"""Why a call failed: one class for each kind of trouble."""

from __future__ import annotations


class Error(Exception):
    """Why a request failed.

    The text is what the program ``imgforge`` prints: what was wanted, what went wrong, and what caused that, a line for
    each. Subclasses stand for those who can mend it.
    """

    message: str
    """What went wrong, with its causes."""
    kind: str
    """One word for the sort of trouble: ``config``, ``lock``, ``fetch`` …"""
    hint: str | None
    """What mends it, where that can be said."""

    def __init__(self, message: str, kind: str = "error", hint: str | None = None) -> None:
        super().__init__(message, kind, hint)
        self.message = message
        self.kind = kind
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class ConfigError(Error):
    """images.toml says what can't be, or not enough; or it does not have what is asked for."""


class LockError(Error):
    """A lock, or images.lock, can't be used or does not fit what is asked for."""


class FetchError(Error):
    """Something could not be fetched."""


class RegistryError(Error):
    """A registry did not do what it was asked for, or can't be asked."""


class BuildError(Error):
    """A layer, an artifact or an image can't be made of what is there."""


class StoreError(Error):
    """The store can't be had."""


class OutputError(Error):
    """An output, or another file, can't be read or written."""


class ResolveError(Error):
    """Requirements can't be read, or no set of packages meets them; the message explains why."""


# By the kinds of the library and of its resolver.
CLASSES: dict[str, type[Error]] = {
    "config": ConfigError,
    "lock": LockError,
    "fetch": FetchError,
    "registry": RegistryError,
    "build": BuildError,
    "store": StoreError,
    "output": OutputError,
    "interrupted": Error,
    "input": ResolveError,
    "unsatisfiable": ResolveError,
    "index": FetchError,
    "unusable": ResolveError,
    "internal": Error,
}
