"""What the tests share: a project of its own for each, and a registry."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(sysconfig.get_path("scripts")) / "imgforge"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the repository's own images.toml, with all that it needs."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("images.toml", "images.lock"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "app", folder / "app")
    (folder / "vendor").symlink_to(ROOT / "vendor")
    return folder


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has the layers of that project already."""
    import imgforge

    folder = tmp_path_factory.mktemp("filled")
    for name in ("images.toml", "images.lock"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "app", folder / "app")
    (folder / "vendor").symlink_to(ROOT / "vendor")
    store = folder / "store"
    imgforge.Config.load(folder / "images.toml", store=store, offline=True).build(output=folder / "dist")
    return store


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on loopback: its host and port."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    settings = folder / "config.yml"
    settings.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail("docker-registry does not come up: " + (folder / "log").read_text())
        yield address
    finally:
        server.terminate()
        server.wait()
