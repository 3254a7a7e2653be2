"""A channel of packages that are hard to link: prefixes in text and binaries, links, one path in several packages."""

import os

from channel import PLACEHOLDER, Package

LONG = "x" * 200


def packages():
    """(package, form) of each, and nothing that is not in the channel."""
    return [
        (prefixes(), "conda"),
        (links(), "conda"),
        (generic(), "tar.bz2"),
        (points(), "conda"),
        *((package, "conda") for package in clobbering()),
        (scripts(), "tar.bz2"),
    ]


def prefixes():
    package = Package("prefixes", "1.0", "h0_0", [], "linux-64")
    here = PLACEHOLDER.encode()
    package.add("bin/text", b"#!" + here + b"/bin/python -s\nprint('" + here + b"/share')\n", True)
    package.add("bin/shell", b"#!/bin/sh\nexec " + here + b"/bin/text \"$@\"\n", True)
    package.add("bin/long", b"#!" + here + b"/" + LONG.encode() + b"/python -u -B\nimport sys\n", True)
    package.add("lib/two.so", b"\x7fELF\0" + here + b"/lib\0between\0" + here + b":" + here + b"/share\0tail\xff\0")
    # Across the pieces in which files are read.
    for number, border in enumerate([1 << 16, 1 << 17, 1 << 18, 1 << 20]):
        for off in (-len(here), -1, 0, 1):
            start = border + off
            package.add(f"lib/border-{number}-{off}.so", b"\x01\0" * (start // 2) + b"\0" * (start % 2) + here + b"/x\0" * 9)
    package.add("share/many.txt", (here + b"\n") * 5000)
    package.add("share/plain", os.urandom(0) + bytes(range(256)) * 64)
    package.add("share/empty", b"")
    return package


def links():
    package = Package("links", "1.0", "h0_0", [], "linux-64")
    package.add("lib/liba.so.1.2", b"\x7fELF\0a")
    package.link("lib/liba.so.1", "liba.so.1.2")
    package.link("lib/liba.so", "liba.so.1")
    package.link("share/folder", "../lib")
    package.link("share/dangling", "no/where")
    package.link("bin/tool", "../libexec/tool")
    package.add("libexec/tool", b"#!/bin/sh\necho tool\n", True)
    return package


def generic():
    package = Package("generic", "2.0", "0", [], "noarch", "generic")
    package.add("share/generic/fonts.conf", f"<dir>{PLACEHOLDER}/fonts</dir>\n".encode())
    package.add("etc/conda/activate.d/generic.sh", b"export GENERIC=1\n")
    return package


def points():
    package = Package("points", "0.1", "py_0", ["python >=3.9"], "noarch", "python")
    package.add("site-packages/points/__init__.py", b"def main():\n    print('points')\n")
    package.add("site-packages/points-0.1.dist-info/METADATA", b"Metadata-Version: 2.1\nName: points\nVersion: 0.1\n")
    package.add("site-packages/points-0.1.dist-info/INSTALLER", b"conda")
    package.add("python-scripts/points-script", b"#!python\nprint(1)\n", True)
    package.entry_points = ["points = points:main", "points-deep = points.sub:Class.run"]
    return package


def clobbering():
    """Three packages; `late` depends on `early`, `other` on neither."""
    early = Package("clobber-early", "1.0", "h0_0", [], "linux-64")
    early.add("share/c/all.txt", b"early\n")
    early.add("share/c/same.txt", b"same\n")
    early.add("share/c/two.txt", b"early, two\n")
    early.add("share/c/own-early.txt", b"early\n")
    late = Package("clobber-late", "1.0", "h0_0", ["clobber-early"], "linux-64")
    late.add("share/c/all.txt", f"late in {PLACEHOLDER}\n".encode())
    late.add("share/c/same.txt", b"same\n")
    late.link("share/c/link.txt", "two.txt")
    other = Package("clobber-other", "1.0", "h0_0", [], "linux-64")
    other.add("share/c/all.txt", b"other\n", True)
    other.add("share/c/two.txt", b"other, two\n")
    other.add("share/c/link.txt", b"no link\n")
    return [early, late, other]


def scripts():
    package = Package("scripts", "1.0", "h0_0", [], "linux-64")
    package.add("bin/.scripts-post-link.sh", b"#!/bin/sh\ntouch \"$PREFIX/ran\"\n", True)
    package.add("bin/.scripts-pre-unlink.sh", b"#!/bin/sh\n", True)
    return package
