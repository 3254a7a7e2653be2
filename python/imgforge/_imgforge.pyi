from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Literal, final

__all__ = [
    "Change",
    "Config",
    "Conflict",
    "Image",
    "Layer",
    "Package",
    "Plan",
    "PlannedArtifact",
    "PlannedImage",
    "PlannedLayer",
    "Progress",
    "Pushed",
    "Resolution",
    "Shipment",
    "__version__",
    "read_lock",
    "resolve",
    "solve",
]

__version__: str

_Path = str | PathLike[str]
_OnProgress = Callable[[Progress], object]

@final
class Config:
    """An images.toml, read and checked.

    It stays what it was when it was read; images.lock beside it is read anew by each call.
    """

    @staticmethod
    def load(
        path: _Path = "images.toml",
        *,
        store: _Path | None = None,
        offline: bool = False,
        jobs: int | None = None,
        cache: str | None = None,
        authfile: _Path | None = None,
        ca_files: Sequence[_Path] | None = None,
        plain_http: Sequence[str] | None = None,
    ) -> Config:
        """Reads an images.toml.

        :param path: the file. Paths in it are relative to its folder.
        :param store: the folder where artifacts and layers are kept; by default that of the program.
        :param offline: use no network.
        :param jobs: threads that make layers; by default as many as there are cores.
        :param cache: a repository of layers that are shared with other hosts: ``docker://HOST/NAME``.
        :param authfile: the only file with credentials for registries, instead of podman's and docker's.
        :param ca_files: more certificates to trust, as PEM.
        :param plain_http: hosts of registries that are spoken to without TLS.
        :raises ConfigError: the file says what can't be; the message has the line.
        :raises LockError: images.lock can't be read.
        """

    @property
    def path(self) -> str:
        """The file, as it was given."""

    @property
    def images(self) -> tuple[str, ...]:
        """The names of all images, sorted; with the values of the matrix where it has several of one name."""

    def plan(
        self,
        images: Sequence[str] | None = None,
        *,
        values: dict[str, str] | None = None,
        against: str | None = None,
    ) -> Plan:
        """Says what a build would do.

        Reads locks, and pins what images.lock leaves open in memory only. Makes and writes nothing.

        :param images: names or patterns of images (``runtime*``); all by default.
        :param values: only images with these values of the matrix: ``{"python": "3.12"}``.
        :param against: what is shipped is what this images.lock does not record: its path, or a commit of git's that has
            one; by default the project's own.
        """

    def build(
        self,
        images: Sequence[str] | None = None,
        *,
        values: dict[str, str] | None = None,
        output: _Path | None = None,
        archive: _Path | None = None,
        docker_archive: _Path | None = None,
        locked: bool = False,
        progress: _OnProgress | None = None,
    ) -> tuple[Image, ...]:
        """Makes images and writes them, and images.lock beside images.toml.

        Ctrl-C, and an exception of ``progress``, ends the build: outputs and images.lock are then as they were before,
        and the store has what was done so far.

        :param images: names or patterns of images (``runtime*``); all by default.
        :param values: only images with these values of the matrix.
        :param output: the folder of an OCI layout; ``dist`` unless an archive is written.
        :param archive: an archive of such a layout.
        :param docker_archive: an archive for ``docker load``.
        :param locked: fail if images.lock would change.
        :param progress: called with each `Progress`, on this thread.
        """

    def push(
        self,
        destination: str,
        images: Sequence[str] | None = None,
        *,
        values: dict[str, str] | None = None,
        dry_run: bool = False,
        locked: bool = False,
        progress: _OnProgress | None = None,
    ) -> tuple[Pushed, ...]:
        """Sends images to a registry, and of them only what it lacks. What is missing here and there is made first.

        :param destination: ``docker://HOST/NAME[:TAG]``; ``{image}`` and ``{tag}`` stand for each image's own.
        :param dry_run: only ask what would be sent.
        """

@final
class Image:
    """An image that was built."""

    @property
    def name(self) -> str:
        """Its name in images.toml; with the values of the matrix where there are several of one name."""
    @property
    def reference(self) -> str:
        """What an output calls it: ``NAME:TAG``."""
    @property
    def digest(self) -> str:
        """Of its manifest, or of its index when it is for several platforms: ``sha256:…``."""
    @property
    def platforms(self) -> tuple[str, ...]:
        """What it is for: ``linux/amd64``."""
    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers from the bottom, the base's first; of several platforms one after another, each layer once."""
    @property
    def size(self) -> int:
        """Bytes of its layers, compressed."""
    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Paths that two packages of an environment bring with different content."""
    @property
    def config(self) -> Config:
        """What it was built of."""
    def push(
        self,
        destination: str,
        *,
        dry_run: bool = False,
        progress: _OnProgress | None = None,
    ) -> Pushed:
        """Sends the image to a registry, and of it only what the registry lacks.

        :param destination: ``docker://HOST/NAME[:TAG]``; ``{image}`` and ``{tag}`` stand for the image's own.
        :param dry_run: only ask what would be sent.
        """

@final
class Layer:
    """A layer of an image."""

    @property
    def digest(self) -> str:
        """Of the compressed bytes: ``sha256:…``."""
    @property
    def diff_id(self) -> str:
        """Of the uncompressed tar."""
    @property
    def size(self) -> int:
        """Bytes, compressed."""
    @property
    def media_type(self) -> str:
        """How it is stored."""
    @property
    def title(self) -> str:
        """What is in it, in a line."""
    @property
    def key(self) -> str | None:
        """The key by which it is found again; none for a layer of the base."""
    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages in it; none are known of a layer of a base that is an image."""
    @property
    def origin(self) -> Literal["made", "reused", "taken", "base"]:
        """What became of it: made just now, found in the store, taken from a cache, or the base's."""

@final
class Package:
    """A package: in a layer, or of a resolution."""

    @property
    def name(self) -> str:
        """Its name, normalised as its kind of package has it."""
    @property
    def version(self) -> str:
        """Its version."""
    @property
    def kind(self) -> Literal["wheel", "sdist", "conda", "deb"]:
        """What kind of package it is."""
    @property
    def build(self) -> str | None:
        """The build string of a conda package, where it is known."""
    @property
    def file(self) -> str:
        """The file's name."""
    @property
    def url(self) -> str | None:
        """Where the file is, if it is not on this host; of a Debian package any mirror is as good, and none is named."""
    @property
    def path(self) -> str | None:
        """Where the file is, if it is on this host."""
    @property
    def sha256(self) -> str | None:
        """Of the file, in hexadecimal digits; only conda packages of old locks lack it."""
    @property
    def size(self) -> int | None:
        """Bytes of the file, where they are known."""

@final
class Conflict:
    """A path that two packages of an environment bring with different content."""

    @property
    def prefix(self) -> str:
        """The environment's folder."""
    @property
    def path(self) -> str:
        """The path."""
    @property
    def winner(self) -> str:
        """The package whose file stands."""
    @property
    def loser(self) -> str:
        """The package whose file is covered."""

@final
class Pushed:
    """An image that was sent to a registry. Counts are blobs and bytes."""

    @property
    def name(self) -> str:
        """The image's name in images.toml."""
    @property
    def reference(self) -> str:
        """Where it is: ``HOST/NAME:TAG``."""
    @property
    def digest(self) -> str:
        """Of its manifest or its index."""
    @property
    def sent(self) -> tuple[int, int]:
        """What went over the network; with ``dry_run``, what would."""
    @property
    def mounted(self) -> tuple[int, int]:
        """What the registry took from another repository of its own."""
    @property
    def skipped(self) -> tuple[int, int]:
        """What was there."""

@final
class Plan:
    """What a build would do."""

    @property
    def images(self) -> tuple[PlannedImage, ...]:
        """The images, by name and platform."""
    @property
    def layers(self) -> tuple[PlannedLayer, ...]:
        """The layers of all of them, each once."""
    @property
    def artifacts(self) -> tuple[PlannedArtifact, ...]:
        """What is built once for them."""
    @property
    def fetch_files(self) -> int:
        """Files that would come over the network."""
    @property
    def fetch_bytes(self) -> int:
        """Bytes of those whose size a lock tells."""
    @property
    def ships(self) -> Shipment:
        """What a registry is sent that has what was there before."""

@final
class Shipment:
    """What is shipped that was not there before, each layer once."""

    @property
    def layers(self) -> int:
        """Layers that no image had."""
    @property
    def configs(self) -> int:
        """Configurations of images."""
    @property
    def bytes(self) -> int:
        """Bytes of both, as far as they are known."""
    @property
    def is_exact(self) -> bool:
        """Whether they are: layers that are still to be made are estimated by their packages."""

@final
class Change:
    """A layer that comes or goes."""

    @property
    def title(self) -> str:
        """What is in it, in a line."""
    @property
    def key(self) -> str:
        """The key by which it is found again."""
    @property
    def digest(self) -> str | None:
        """Of the compressed bytes, where it has been made."""
    @property
    def size(self) -> int | None:
        """Bytes, compressed, where anything is known of them."""
    @property
    def is_exact(self) -> bool:
        """Whether that is the layer's own size, and not that of its packages."""

@final
class PlannedImage:
    """An image for one platform, as layers."""

    @property
    def name(self) -> str:
        """Its name in images.toml."""
    @property
    def platform(self) -> str:
        """What it runs on."""
    @property
    def layers(self) -> tuple[PlannedLayer, ...]:
        """Its own layers from the bottom; those of a base that is an image lie below."""
    @property
    def new(self) -> tuple[Change, ...]:
        """Layers that no image had before."""
    @property
    def gone(self) -> tuple[Change, ...]:
        """Layers that it had before, and has no more."""

@final
class PlannedLayer:
    """A layer, and what would become of it."""

    @property
    def title(self) -> str:
        """What is in it, in a line."""
    @property
    def key(self) -> str:
        """The key by which it is found again."""
    @property
    def fate(self) -> Literal["reuse", "take", "make", "fetch and make"]:
        """What would become of it; ``take`` is from a cache."""
    @property
    def size(self) -> int | None:
        """Bytes, compressed, where that is known."""
    @property
    def digest(self) -> str | None:
        """Of the compressed bytes, where the store or images.lock knows it."""
    @property
    def packages(self) -> tuple[Package, ...]:
        """The packages in it."""
    @property
    def fetch_files(self) -> int:
        """Files that would be fetched for it."""
    @property
    def fetch_bytes(self) -> int:
        """Bytes of those whose size a lock tells."""

@final
class PlannedArtifact:
    """Something that is built once."""

    @property
    def name(self) -> str:
        """Its name in images.toml, or the package's."""
    @property
    def title(self) -> str:
        """The name, with what makes it another one than its like."""
    @property
    def key(self) -> str:
        """The key by which it is found again."""
    @property
    def is_built(self) -> bool:
        """Whether it is there."""

@final
class Progress:
    """Something that happened during a build or a push."""

    @property
    def kind(
        self,
    ) -> Literal[
        "planned",
        "fetching",
        "bytes",
        "fetched",
        "making",
        "made",
        "waiting",
        "taken",
        "found",
        "building",
        "line",
        "built",
        "retry",
        "note",
        "sending",
        "sent",
    ]:
        """What. New words may come."""
    @property
    def title(self) -> str:
        """Whom it happened to: a layer, a file, an artifact."""
    @property
    def bytes(self) -> int | None:
        """For ``bytes``, how many have just come or gone; else how many the whole has."""
    @property
    def message(self) -> str | None:
        """More of it, for a reader: a line of a build's output, why something is tried again."""

@final
class Resolution:
    """The files that requirements or a lock amount to, as a sequence of `Package`."""

    @property
    def packages(self) -> tuple[Package, ...]:
        """Conda packages in the order in which they are linked, then wheels by name."""
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Package]: ...
    def to_requirements(self) -> str:
        """A requirements.txt with the hashes of all files of each version. Of what `resolve` gives."""

    def to_pylock(self) -> str:
        """A pylock.toml (PEP 751) with the wheels that fit the target. Of what `resolve` gives."""

    def to_uv_lock(self) -> str:
        """The uv.lock of the project that `to_pyproject` writes. Of what `resolve` gives.

        A uv.lock is for many environments, so the indexes are asked once more.
        """

    def to_pyproject(self) -> str:
        """The pyproject.toml that uv wants beside a uv.lock. Of what `resolve` gives."""

    def to_explicit(self) -> str:
        """An ``@EXPLICIT`` list. Of conda packages."""

    def to_pixi_lock(self) -> str:
        """A pixi.lock. Of conda packages with records: those of an ``@EXPLICIT`` list have none."""

def resolve(
    requirements: Sequence[str],
    *,
    python: str,
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64",
    glibc: str | None = None,
    musl: str | None = None,
    index: str | None = None,
    extra_indexes: Sequence[str] | None = None,
    find_links: Sequence[str] | None = None,
    constraints: Sequence[str] | None = None,
    overrides: Sequence[str] | None = None,
    exclude_newer: str | None = None,
    prereleases: Literal["if-necessary", "allow", "disallow", "explicit"] = "if-necessary",
    no_build: bool = False,
    offline: bool = False,
    store: _Path | None = None,
) -> Resolution:
    """Resolves Python requirements with uv's resolver, for a target that need not be this host.

    :param requirements: as PEP 508 has them: ``rich>=13``.
    :param python: CPython's version: ``3.12``.
    :param platform: what it is for.
    :param glibc: the newest glibc that wheels may ask for: ``2.36``; without it and ``musl``, 2.28, as uv has it.
    :param musl: the newest musl, instead.
    :param index: the index to ask instead of PyPI.
    :param extra_indexes: indexes that are asked before it.
    :param find_links: folders or pages of links to wheels.
    :param constraints: requirements that only narrow what may be taken.
    :param overrides: requirements that stand in for whatever else is required of their packages.
    :param exclude_newer: the moment after which nothing may have been uploaded: ``2025-06-01``.
    :param no_build: pass over versions that have only sources for the target.
    :param store: where indexes' answers are kept; by default where builds look for them.
    :raises ResolveError: nothing fits, with uv's explanation; or a requirement can't be read.
    :raises FetchError: an index can't be asked.
    """

def solve(
    specs: Sequence[str],
    *,
    channels: Sequence[str],
    platform: str = "linux-64",
    virtual_packages: dict[str, str] | None = None,
    channel_priority: Literal["strict", "flexible", "disabled"] = "strict",
    exclude_newer: str | None = None,
    offline: bool = False,
    store: _Path | None = None,
) -> Resolution:
    """Solves for conda packages with rattler's solver, for a target that need not be this host.

    :param specs: as conda has them: ``python 3.12.*``.
    :param channels: by priority: names, URLs, or paths that begin with ``./``, ``../`` or ``/``.
    :param platform: ``linux-64``, ``linux-aarch64``.
    :param virtual_packages: what the system is said to have: ``{"__glibc": "2.36", "__cuda": "12.8"}``.
    :param exclude_newer: the moment after which nothing may have been published: ``2025-06-01T00:00:00Z``.
    :raises ResolveError: nothing fits, with the solver's explanation; or a spec can't be read.
    :raises FetchError: a channel can't be asked.
    """

def read_lock(
    path: _Path,
    *,
    kind: str | None = None,
    python: str | None = None,
    platform: Literal["linux/amd64", "linux/arm64"] = "linux/amd64",
    glibc: str | None = None,
    musl: str | None = None,
    package: str | None = None,
    extras: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    environment: str | None = None,
    categories: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    virtual_packages: dict[str, str] | None = None,
    index: str | None = None,
    extra_indexes: Sequence[str] | None = None,
    find_links: Sequence[str] | None = None,
    offline: bool = False,
    store: _Path | None = None,
) -> Resolution:
    """Reads a lock, and selects what it means for a target.

    :param kind: the format, where the file's name does not tell it: ``uv``, ``pylock``, ``requirements``, ``poetry``,
        ``pixi``, ``conda-lock``, ``explicit``, ``environment-yml``.
    :param python: CPython's version, which locks of Python's own tools want.
    :param package: the member of a uv workspace whose dependencies are wanted.
    :param extras: extras of the project.
    :param groups: dependency groups.
    :param environment: of a pixi.lock; ``default`` without.
    :param categories: of a conda-lock.yml, besides ``main``.
    :param channels: what an environment.yml is solved with instead of its own.
    :param index: as for `resolve`, where a lock has no URLs (requirements.txt, poetry.lock).
    :raises LockError: the lock can't be read, or does not fit the target.
    """
