"""Builds from Python: the program's bytes, progress on the way, and an end before it is done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

import imgforge
from conftest import PROGRAM


def digests(folder: Path, store: Path, output: Path) -> dict[str, str]:
    command: list[str | Path] = [PROGRAM, "build", "--offline", "--quiet", "--store", store, "--output", output]
    lines = subprocess.check_output(command, cwd=folder, text=True).splitlines()
    return dict(line.split() for line in lines)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_bytes_are_the_programs(project: Path, tmp_path: Path) -> None:
    lock = (project / "images.lock").read_bytes()
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "one", offline=True, jobs=2)
    images = config.build(output=tmp_path / "dist", locked=True)
    assert {image.name: image.digest for image in images} == digests(project, tmp_path / "two", tmp_path / "its")
    assert tree(tmp_path / "dist") == tree(tmp_path / "its")
    assert (project / "images.lock").read_bytes() == lock

    devel, runtime = images
    assert (runtime.name, runtime.reference, runtime.platforms) == ("runtime", "runtime:latest", ("linux/amd64",))
    assert repr(runtime) == f'Image("runtime:latest", "{runtime.digest}", {len(runtime.layers)} layers)'
    assert runtime.size == sum(layer.size for layer in runtime.layers)
    digest = runtime.digest.removeprefix("sha256:")
    manifest = json.loads((tmp_path / "dist/blobs/sha256" / digest).read_bytes())
    assert [(layer["digest"], layer["size"], layer["mediaType"]) for layer in manifest["layers"]] == [
        (layer.digest, layer.size, layer.media_type) for layer in runtime.layers
    ]
    picture = manifest["config"]["digest"].removeprefix("sha256:")
    settings = json.loads((tmp_path / "dist/blobs/sha256" / picture).read_bytes())
    assert settings["rootfs"]["diff_ids"] == [layer.diff_id for layer in runtime.layers]
    # Both have the same packages in the same layers.
    shared = {layer.digest for layer in devel.layers} & {layer.digest for layer in runtime.layers}
    assert any(package.name == "uvicorn" for layer in devel.layers if layer.digest in shared for package in layer.packages)
    assert {layer.origin for layer in runtime.layers} == {"made"}
    again = config.build(["runtime"], output=tmp_path / "again")
    assert {layer.origin for layer in again[0].layers} == {"reused"}


def test_archives(project: Path, filled: Path, tmp_path: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", store=filled, offline=True)
    config.build(["runtime"], archive=tmp_path / "a.tar", docker_archive=tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "project"]


def test_progress_is_told_on_the_callers_thread(project: Path, tmp_path: Path) -> None:
    told: list[imgforge.Progress] = []
    threads = set()

    def listen(progress: imgforge.Progress) -> None:
        told.append(progress)
        threads.add(threading.get_ident())

    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store", offline=True)
    images = config.build(output=tmp_path / "dist", progress=listen)
    assert threads == {threading.get_ident()}
    made = {progress.title for progress in told if progress.kind == "made"}
    assert made == {layer.title for image in images for layer in image.layers}
    # Debian's indexes have sizes, the lock has none.
    sizes = {progress.title: progress.bytes for progress in told if progress.kind == "fetched" and progress.bytes}
    for title, size in sizes.items():
        pieces = [progress.bytes for progress in told if progress.kind == "bytes" and progress.title == title]
        assert sum(filter(None, pieces)) == size, title
    assert sum(sizes.values()) > 1 << 20
    assert told[0].kind == "planned" and repr(told[0]).startswith('Progress("planned", ')


def test_others_run_meanwhile(project: Path, tmp_path: Path) -> None:
    """A thread that needs the interpreter gets it while layers are made."""
    turns, over = 0, threading.Event()

    def count() -> None:
        nonlocal turns
        while not over.wait(0.005):
            turns += 1

    counter = threading.Thread(target=count)
    counter.start()
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store", offline=True)
    config.build(output=tmp_path / "dist")
    over.set()
    counter.join()
    assert turns > 10


def test_a_callback_ends_a_build(project: Path, tmp_path: Path) -> None:
    lock = (project / "images.lock").read_bytes()
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store", offline=True)
    told = []

    def refuse(progress: imgforge.Progress) -> None:
        told.append(progress.kind)
        if progress.kind == "made":
            raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        config.build(output=tmp_path / "dist", progress=refuse)
    assert told[-1] == "made", "nothing is told after that"
    assert not (tmp_path / "dist").exists()
    assert (project / "images.lock").read_bytes() == lock
    # What was made is kept, and the rest is made now.
    fates = {layer.fate for layer in config.plan().layers}
    assert fates == {"reuse", "make"}
    images = config.build(output=tmp_path / "dist", locked=True)
    assert {image.name: image.digest for image in images} == digests(project, tmp_path / "two", tmp_path / "its")


CHILD = """
import sys
import imgforge

def tell(progress):
    if progress.kind == "making":
        print("making", flush=True)

config = imgforge.Config.load("images.toml", store=sys.argv[1], offline=True, jobs=1)
try:
    config.build(output="dist", progress=tell if sys.argv[2] == "listening" else None)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(3)
"""


@pytest.mark.parametrize("how", ["listening", "deaf"])
def test_ctrl_c(project: Path, tmp_path: Path, how: str) -> None:
    """SIGINT in the midst of it: the old output and images.lock stand, and the next build goes on from there."""
    (project / "dist").mkdir()
    (project / "dist" / "note").write_text("of before")
    lock = (project / "images.lock").read_bytes()
    store = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, store, how], cwd=project, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        if how == "listening":
            assert child.stdout.readline() == "making\n"
        else:
            while not any((store / "tmp").glob("*")) and child.poll() is None:
                pass
        os.kill(child.pid, signal.SIGINT)
        rest = child.stdout.read()
        assert child.wait(timeout=60) == 3, rest
        assert rest.endswith("interrupted\n")
    assert tree(project / "dist") == {"note": b"of before"}
    assert (project / "images.lock").read_bytes() == lock
    # Of what was being fetched, what has come is kept, for the next build to go on with.
    assert all(path.suffix == ".part" for path in (store / "tmp").iterdir())
    said = subprocess.run(
        [PROGRAM, "verify", "--store-blobs", "--store", store, "none.toml"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    config = imgforge.Config.load(project / "images.toml", store=store, offline=True)
    images = config.build(output=tmp_path / "dist", locked=True)
    assert {image.name: image.digest for image in images} == digests(project, tmp_path / "two", tmp_path / "its")


def test_push(project: Path, filled: Path, registry: str, tmp_path: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", store=filled, plain_http=[registry])
    (runtime,) = config.build(["runtime"], output=tmp_path / "dist")
    told: list[imgforge.Progress] = []
    dry = runtime.push(f"docker://{registry}/team/{{image}}", dry_run=True)
    pushed = runtime.push(f"docker://{registry}/team/{{image}}", progress=told.append)
    assert dry.sent == pushed.sent and pushed.sent[0] == len(runtime.layers) + 1
    assert (pushed.reference, pushed.digest) == (f"{registry}/team/runtime:latest", runtime.digest)
    assert told[-1].kind == "sent"
    assert sum(progress.bytes or 0 for progress in told if progress.kind == "bytes") == pushed.sent[1]
    request = urllib.request.Request(
        f"http://{registry}/v2/team/runtime/manifests/latest",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Docker-Content-Digest"] == runtime.digest
    both = config.push(f"docker://{registry}/team/{{image}}")
    assert [(pushed.name, pushed.sent[1] > 0) for pushed in both] == [("devel", True), ("runtime", False)]


def test_a_registry_that_is_not_there(project: Path, filled: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", store=filled, plain_http=["127.0.0.1:1"])
    with pytest.raises(imgforge.Error) as raised:
        config.push("docker://127.0.0.1:1/a/{image}")
    assert raised.value.kind == "registry"
