"""The package as it is installed: the program beside the module, the time that an import takes, what it exports."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import imgforge
from conftest import PROGRAM
from imgforge import _program

IMPORT = """
import time
began = time.perf_counter()
import imgforge
print(time.perf_counter() - began)
"""


def test_it_is_imported_in_no_time() -> None:
    took = [float(subprocess.check_output([sys.executable, "-c", IMPORT], text=True)) for _ in range(7)]
    assert min(took) < 0.060, took


def test_one_version() -> None:
    said = subprocess.check_output([PROGRAM, "--version"], text=True)
    assert said.split() == ["imgforge", imgforge.__version__]
    assert metadata.version("imgforge") == imgforge.__version__


def test_the_program_is_found() -> None:
    assert _program.find() == str(PROGRAM)


def test_what_is_exported_is_documented() -> None:
    for name in imgforge.__all__:
        thing = getattr(imgforge, name)
        assert name == "__version__" or thing.__doc__, name
        assert getattr(thing, "__module__", "imgforge").startswith("imgforge"), name
