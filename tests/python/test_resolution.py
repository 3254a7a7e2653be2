"""Requirements and locks become files."""

from __future__ import annotations

import bz2
import io
import json
import tarfile
from pathlib import Path

import pytest

import imgforge
from conftest import ROOT


def test_a_lock(tmp_path: Path) -> None:
    resolution = imgforge.read_lock(ROOT / "app/uv.lock", python="3.11", glibc="2.36", store=tmp_path)
    names = [package.name for package in resolution]
    assert names == sorted(names) and "uvicorn" in names and "pytest" not in names
    assert len(resolution) == len(resolution.packages) == len(names)
    assert all(package.kind == "wheel" and package.url and package.sha256 for package in resolution)
    dev = imgforge.read_lock(ROOT / "app/uv.lock", python="3.11", glibc="2.36", groups=["dev"], store=tmp_path)
    assert "pytest" in {package.name for package in dev}
    # numpy's wheel is another one for another processor.
    arm = imgforge.read_lock(ROOT / "app/uv.lock", python="3.11", platform="linux/arm64", glibc="2.36", store=tmp_path)
    files = {package.name: package.file for package in arm}
    assert all("x86_64" not in file for file in files.values()) and "aarch64" in files["numpy"]


def test_a_lock_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(imgforge.LockError) as raised:
        imgforge.read_lock(tmp_path / "uv.lock", python="3.11", store=tmp_path)
    assert raised.value.kind == "lock" and "uv.lock" in raised.value.message
    with pytest.raises(imgforge.ResolveError, match="has no name of a lock"):
        imgforge.read_lock(tmp_path / "some.thing", python="3.11", store=tmp_path)
    with pytest.raises(ValueError, match="`pdm` is none of uv, pylock"):
        imgforge.read_lock(tmp_path / "uv.lock", kind="pdm", python="3.11", store=tmp_path)


def wheel(folder: Path, name: str, version: str, requires: str | None = None) -> None:
    """A wheel without files."""
    import zipfile

    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    if requires:
        metadata += f"Requires-Dist: {requires}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def test_requirements(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "front", "1.0", "back>=1")
    wheel(wheels, "back", "1.0")
    wheel(wheels, "back", "2.0")

    def resolve(*requirements: str, constraints: list[str] | None = None) -> imgforge.Resolution:
        return imgforge.resolve(
            requirements,
            python="3.12",
            glibc="2.36",
            find_links=[str(wheels)],
            index=f"file://{tmp_path}/index",
            constraints=constraints,
            store=tmp_path / "store",
            offline=True,
        )

    (tmp_path / "index").mkdir()
    found = resolve("front")
    assert [(package.name, package.version) for package in found] == [("back", "2.0"), ("front", "1.0")]
    assert all(package.path and not package.url for package in found)
    assert "back==2.0" in found.to_requirements() and "--hash=sha256:" in found.to_requirements()
    assert 'name = "front"' in found.to_pylock()
    older = resolve("front", constraints=["back<2"])
    assert [package.version for package in older] == ["1.0", "1.0"]
    with pytest.raises(imgforge.ResolveError) as raised:
        resolve("front", "back<1")
    assert raised.value.kind == "unsatisfiable" and "back" in raised.value.message
    with pytest.raises(imgforge.ResolveError) as raised:
        resolve("front >=")
    assert raised.value.kind == "input"
    with pytest.raises(imgforge.ResolveError, match="conda packages"):
        found.to_explicit()


def channel(folder: Path) -> None:
    """A channel with two packages."""
    subdir = folder / "linux-64"
    subdir.mkdir(parents=True)
    (folder / "noarch").mkdir()
    packages = {}
    for name, version, depends in [("back", "1.0", []), ("back", "2.0", ["__cuda >=12"]), ("front", "1.0", ["back"])]:
        file = f"{name}-{version}-0.tar.bz2"
        record = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends, "subdir": "linux-64"}
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            text = json.dumps(record).encode()
            entry = tarfile.TarInfo("info/index.json")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
        (subdir / file).write_bytes(bz2.compress(packed.getvalue()))
        packages[file] = {**record, "sha256": "0" * 64, "md5": "0" * 32, "size": 1}
    for name, content in [("linux-64", packages), ("noarch", {})]:
        document = {"info": {"subdir": name}, "packages": content, "packages.conda": {}}
        (folder / name / "repodata.json").write_text(json.dumps(document))


def test_conda(tmp_path: Path) -> None:
    channel(tmp_path / "channel")

    def solve(*specs: str, **virtual: str) -> imgforge.Resolution:
        return imgforge.solve(
            specs, channels=[str(tmp_path / "channel")], virtual_packages=virtual, store=tmp_path / "store", offline=True
        )

    found = solve("front")
    assert [(package.name, package.version, package.kind) for package in found] == [
        ("back", "1.0", "conda"),
        ("front", "1.0", "conda"),
    ]
    assert [package.version for package in solve("front", __cuda="12.8")] == ["2.0", "1.0"]
    assert found.to_explicit().splitlines()[-1].split("#")[0].endswith("/linux-64/front-1.0-0.tar.bz2")
    lock = tmp_path / "pixi.lock"
    lock.write_text(found.to_pixi_lock())
    again = imgforge.read_lock(lock, store=tmp_path / "store")
    assert [(package.name, package.sha256) for package in again] == [(package.name, package.sha256) for package in found]
    with pytest.raises(imgforge.ResolveError) as raised:
        solve("front", "back >=2")
    assert raised.value.kind == "unsatisfiable" and "__cuda" in raised.value.message
    with pytest.raises(imgforge.ResolveError, match="requirements.txt is written of what `resolve` gives"):
        found.to_requirements()
