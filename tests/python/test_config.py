"""images.toml from Python: what it says, what is planned of it, and what is wrong with it."""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path

import pytest

import imgforge
from conftest import PROGRAM


def test_a_config_is_plain_and_frozen(project: Path) -> None:
    config = imgforge.Config.load(project / "images.toml")
    assert config.images == ("devel", "runtime")
    assert config.path == str(project / "images.toml")
    assert repr(config) == f'Config("{project}/images.toml", images=[devel, runtime])'
    with pytest.raises(AttributeError):
        config.images = ()  # type: ignore[misc]


def test_the_plan_is_the_programs(project: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    plan = imgforge.Config.load(project / "images.toml", store=store, offline=True).plan()
    command: list[str | Path] = [PROGRAM, "plan", "--offline", "--json", "--store", store]
    said = json.loads(subprocess.check_output(command, cwd=project))
    assert [(image.name, image.platform) for image in plan.images] == [
        (image["name"], image["platform"]) for image in said["images"]
    ]
    for mine, its in zip(plan.images, said["images"], strict=True):
        assert [(layer.key, layer.fate, layer.title, layer.size) for layer in mine.layers] == [
            (layer["key"], layer["fate"], layer["title"], layer["size"]) for layer in its["layers"]
        ]
    assert len(plan.layers) == said["totals"]["layers"]
    assert (plan.fetch_files, plan.fetch_bytes) == (0, 0), "all of it is in the vendor folder"
    packages = {package.name: package for layer in plan.layers for package in layer.packages}
    assert packages["uvicorn"].kind == "wheel" and packages["uvicorn"].file.endswith(".whl")
    assert packages["ca-certificates"].kind == "deb"


def test_what_a_change_ships(project: Path, tmp_path: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store", offline=True)
    assert (config.plan().ships.layers, config.plan().ships.bytes) == (0, 0), "images.lock records all of it"
    released = tmp_path / "released.lock"
    released.write_text("version = 1\n")
    plan = config.plan(["runtime"], against=str(released))
    ships = plan.ships
    (image,) = plan.images
    assert ships.is_exact and (ships.layers, ships.configs) == (len(image.new), 1)
    assert ships.bytes > sum(layer.size or 0 for layer in image.new) > 0
    assert image.gone == () and {layer.key for layer in image.new} >= {layer.key for layer in image.layers}
    assert repr(ships) == f"Shipment({ships.layers} layers, {ships.bytes} bytes)"
    # A file more: one layer, as large as nobody knows before it is made.
    (project / "app/src/app/more.py").write_text("")
    plan = config.plan(["runtime"])
    assert [layer.title for layer in plan.images[0].new] == ["files /app"] and not plan.ships.is_exact
    assert [layer.title for layer in plan.images[0].gone] == ["files /app"]
    with pytest.raises(imgforge.Error) as raised:
        config.plan(against="nowhere")
    check(imgforge.ConfigError, "config", "--against nowhere: there is no such file", "images.lock", raised.value)


def test_some_images(project: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", offline=True)
    assert [image.name for image in config.plan(["run*"]).images] == ["runtime"]
    with pytest.raises(imgforge.ConfigError, match="no image is called `other`; there are devel, runtime"):
        config.plan(["other"])
    with pytest.raises(TypeError):
        config.plan("runtime")


def check(error: type[imgforge.Error], kind: str, message: str, hint: str | None, raised: BaseException) -> None:
    assert type(raised) is error
    assert isinstance(raised, imgforge.Error)
    assert raised.kind == kind
    assert message in raised.message, raised.message
    assert (raised.hint is None) if hint is None else (hint in (raised.hint or ""))
    again = pickle.loads(pickle.dumps(raised))
    assert (again.message, again.kind, again.hint) == (raised.message, raised.kind, raised.hint)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(imgforge.Error) as raised:
        imgforge.Config.load(tmp_path / "images.toml")
    check(imgforge.ConfigError, "config", f"there is no {tmp_path}/images.toml", "run it in the project", raised.value)


def test_an_unknown_key(project: Path) -> None:
    file = project / "images.toml"
    file.write_text(file.read_text().replace("entrypoint", "entrypiont", 1))
    with pytest.raises(imgforge.Error) as raised:
        imgforge.Config.load(file)
    check(imgforge.ConfigError, "config", "entrypiont", "entrypoint", raised.value)
    # What the program says, to the letter.
    said = subprocess.run([PROGRAM, "plan", file], capture_output=True, text=True, check=False)
    assert said.stderr == f"error: {raised.value}\n"


def test_a_broken_images_lock(project: Path) -> None:
    (project / "images.lock").write_text("version = 99\n")
    with pytest.raises(imgforge.Error) as raised:
        imgforge.Config.load(project / "images.toml")
    check(imgforge.LockError, "lock", "images.lock", "restore the file", raised.value)


def test_what_can_not_be_fetched(project: Path, tmp_path: Path) -> None:
    (project / "vendor").unlink()
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store", offline=True)
    with pytest.raises(imgforge.Error) as raised:
        config.build(output=tmp_path / "dist")
    check(imgforge.FetchError, "fetch", "offline", "", raised.value)
    assert not (tmp_path / "dist").exists()


def test_a_folder_that_is_missing(project: Path, tmp_path: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store", offline=True)
    with pytest.raises(imgforge.Error) as raised:
        config.build(archive=tmp_path / "none" / "images.tar")
    check(imgforge.OutputError, "output", "there is no folder", "mkdir -p", raised.value)


def test_a_place_that_is_none(project: Path, tmp_path: Path) -> None:
    config = imgforge.Config.load(project / "images.toml", store=tmp_path / "store")
    with pytest.raises(imgforge.Error) as raised:
        config.push("oci:somewhere")
    check(imgforge.RegistryError, "registry", "is no place in a registry", None, raised.value)
