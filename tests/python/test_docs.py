"""What the pages show is what images.toml takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import imgforge
from conftest import ROOT


def blocks() -> list[str]:
    page = (ROOT / "docs/from-a-dockerfile.md").read_text()
    return re.findall(r"```toml\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize(
    ("parts", "images"), [([0], ("app",)), ([0, 1], ("app", "devel")), ([2], ("train",))], ids=["uv", "uv-devel", "conda"]
)
def test_the_tables(tmp_path: Path, parts: list[int], images: tuple[str, ...]) -> None:
    text = blocks()
    assert len(text) == 3
    (tmp_path / "images.toml").write_text("\n".join(text[part] for part in parts))
    assert imgforge.Config.load(tmp_path / "images.toml").images == images


def test_the_example_of_itself() -> None:
    config = imgforge.Config.load(ROOT / "examples/itself/images.toml")
    assert config.images == ("imgforge",)
