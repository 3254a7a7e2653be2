"""Artifacts from Python: a sandbox is made by the program beside the module, and ended when the build is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import imgforge


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that has the host's shell, and what that is linked with, and nothing else."""
    folder = tmp_path_factory.mktemp("shell")
    linked = subprocess.check_output(["ldd", "/bin/sh"], text=True)
    for path in ["/bin/sh", *re.findall(r"(/\S+) \(", linked)]:
        copy = folder / "root" / path[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (folder / "images.toml").write_text(
        'version = 1\n[base.empty]\nscratch = true\n'
        '[image.shell]\nbase = "empty"\nfiles = [{ src = "root", dest = "/" }]\n'
    )
    imgforge.Config.load(folder / "images.toml", store=folder / "store").build(output=folder / "layout")
    return folder / "layout"


def project(folder: Path, shell: Path, script: str) -> Path:
    folder.mkdir()
    (folder / "images.toml").write_text(
        f"""version = 1
[base.empty]
scratch = true

[base.builder]
image = "oci:{shell}:shell:latest"

[artifact.greeting]
script = '''
{script}
'''
outputs = ["/greeting"]
builder = "builder"

[image.app]
base = "empty"
artifacts = ["greeting"]
"""
    )
    return folder / "images.toml"


def test_a_script_is_run(tmp_path: Path, shell: Path) -> None:
    file = project(tmp_path / "project", shell, "echo working\necho hello > /greeting")
    config = imgforge.Config.load(file, store=tmp_path / "store")
    (planned,) = config.plan().artifacts
    assert (planned.name, planned.is_built) == ("greeting", False)
    told: list[tuple[str, str | None]] = []
    (image,) = config.build(
        output=tmp_path / "dist", progress=lambda progress: told.append((progress.kind, progress.message))
    )
    assert ("line", "working") in told
    assert [layer.origin for layer in image.layers] == ["made"]
    assert config.plan().artifacts[0].is_built


def test_a_script_that_fails(tmp_path: Path, shell: Path) -> None:
    file = project(tmp_path / "project", shell, "echo so it goes >&2\nexit 7")
    with pytest.raises(imgforge.BuildError) as raised:
        imgforge.Config.load(file, store=tmp_path / "store").build(output=tmp_path / "dist")
    assert raised.value.kind == "build" and "[artifact.greeting]" in raised.value.message
    assert not (tmp_path / "dist").exists()


def test_ctrl_c_ends_what_runs(tmp_path: Path, shell: Path) -> None:
    """A command that would never end is gone at once, with all that the sandbox consists of."""
    file = project(tmp_path / "project", shell, "echo forever\nwhile :; do :; done")
    config = imgforge.Config.load(file, store=tmp_path / "store")
    began = 0.0

    def interrupt(progress: imgforge.Progress) -> None:
        nonlocal began
        if progress.kind == "line":
            began = time.monotonic()
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        config.build(output=tmp_path / "dist", progress=interrupt)
    assert 0 < time.monotonic() - began < 10
    assert not (tmp_path / "dist").exists()
    assert not list((tmp_path / "store" / "tmp").glob("*"))
    children = subprocess.run(["pgrep", "--parent", str(os.getpid())], capture_output=True, text=True, check=False)
    assert children.stdout == "" or str(tmp_path) not in children.stdout


def test_the_interpreter_is_not_the_supervisor(tmp_path: Path, shell: Path) -> None:
    """Whoever makes the sandbox is the program, also in an interpreter that is called something else."""
    file = project(tmp_path / "project", shell, "echo hello > /greeting")
    code = (
        "import sys, imgforge\n"
        "sys.executable = '/nowhere'\n"
        f"imgforge.Config.load({str(file)!r}, store={str(tmp_path / 'store')!r}).build(output={str(tmp_path / 'dist')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
