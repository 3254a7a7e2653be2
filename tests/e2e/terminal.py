#!/usr/bin/env python3
"""What `imgforge build` shows on a terminal, seen as a terminal shows it.

    uv run --no-project --with pyte==0.8.2 tests/e2e/terminal.py IMGFORGE [--show]

The program runs with stderr on a pseudo-terminal, and pyte keeps the screen. `--show` prints the fullest screen of each run.
"""

import fcntl
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte

IMAGES = 13
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(rb"\x1b\[[0-9;]+m")


class Run:
    """One run: the screens that were shown, the last of them, and what went where."""

    def __init__(self, project, arguments, columns=100, rows=30, **environment):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {"PATH": "/usr/bin:/bin", "HOME": str(project), "TERM": "xterm-256color", **environment}
        process = subprocess.Popen(
            [imgforge, "--offline", "--store", project / "store", *arguments],
            cwd=project, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
        )
        os.close(theirs)
        screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=1.0)
        stream = pyte.ByteStream(screen)
        self.bytes, self.screens = b"", []
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # nobody has the other end any more
                break
            if not chunk:
                break
            self.bytes += chunk
            stream.feed(chunk)
            self.screens.append([line.rstrip() for line in screen.display])
        os.close(ours)
        self.stdout = process.stdout.read().decode()
        self.code = process.wait()
        above = ["".join(line[column].data for column in range(columns)).rstrip() for line in screen.history.top]
        below = self.screens[-1] if self.screens else []
        self.text = "\n".join(above + below).rstrip()

    def seen(self, pattern):
        """The screens that have a line like this."""
        return [screen for screen in self.screens if any(re.search(pattern, line) for line in screen)]


def fullest(screens):
    """The screen with the most lines."""
    return max(screens, key=lambda screen: sum(map(bool, screen)), default=[])


def insist(condition, what, run=None):
    if not condition:
        if run is not None:
            print("\n".join(fullest(run.screens)), "-" * 40, run.text, sep="\n", file=sys.stderr)
        sys.exit(f"terminal.py: {what}")


def project(folder):
    """Images of files that take a moment to compress: one that all have, and one of each."""
    noise = bytes(range(256)) * 16
    (folder / "shared").mkdir()
    (folder / "shared/weights").write_bytes(os.urandom(40_000_000))
    text = 'version = 1\n[settings]\nplatforms = ["linux/amd64"]\n[base.empty]\nscratch = true\n'
    for number in range(IMAGES):
        own = folder / f"own-{number}"
        own.mkdir()
        (own / "data").write_bytes(os.urandom(4_000_000) + noise * 1000)
        text += (
            f"[image.service-{number:02}]\nbase = \"empty\"\n"
            f'files = [{{ src = "shared", dest = "/shared" }}, {{ src = "own-{number}", dest = "/own" }}]\n'
        )
    (folder / "images.toml").write_text(text)


def table(run):
    """The rows of the table at the end, by image."""
    rows = {}
    for line in run.text.splitlines():
        if line.startswith(("service-", "all, each")):
            rows[line.split("  ")[0]] = line
    return rows


def is_clean(run):
    """Nothing of what comes and goes is left."""
    return not re.search(r"━|─|making files|new layers|images more|transferred", run.text)


def stdout_is_names(run):
    return re.fullmatch(r"(service-\d\d sha256:[0-9a-f]{64}\n){%d}" % IMAGES, run.stdout) is not None


def main():
    with tempfile.TemporaryDirectory(prefix="imgforge-terminal.") as folder:
        folder = Path(folder)
        project(folder)

        first = Run(folder, ["--jobs", "2", "build"])
        insist(first.code == 0, f"the build failed: {first.text}")
        insist(stdout_is_names(first), f"stdout has more than names: {first.stdout!r}")
        insist(first.seen(r"^service-\d\d:latest +[━╸─]+ +\d+/2 +layers"), "no line for an image", first)
        insist(first.seen(r"^  making files /(shared|own)"), "no line for a layer in flight", first)
        insist(first.seen(r"^and \d+ images more"), "images that wait are not counted", first)
        insist(first.seen(r"^\d+ of 14 new layers"), "no line for all layers", first)
        insist(is_clean(first), "lines are left behind", first)
        rows = table(first)
        insist(len(rows) == IMAGES + 1, f"the table has {len(rows)} rows", first)
        figures = r"44\.\d MB +2 +2 +44\.\d MB +0 +- "
        insist(re.search(figures, rows["service-00:latest"]), "the first image's figures", first)
        insist(COLOUR.search(first.bytes), "no colour on a terminal that has it")
        if "--show" in sys.argv:
            print("\n".join(fullest(first.seen("making files /own"))), first.text, sep="\n\n")

        again = Run(folder, ["build"])
        insist(not again.seen(r"^  making |━"), "work is shown where there is none", again)
        insist(all(" 0 " in row for row in table(again).values()), "new layers in a second build", again)

        # What must not be there is not there.
        plain = Run(folder, ["build", "--compression", "gzip"], NO_COLOR="1")
        insist(plain.seen("━") and not COLOUR.search(plain.bytes), "colour in spite of NO_COLOR", plain)
        narrow = Run(folder, ["build", "--compression", "none"], columns=48, rows=12)
        insist(narrow.code == 0 and "done in" in narrow.text, "a small terminal", narrow)
        quiet = Run(folder, ["--quiet", "build"])
        insist(quiet.bytes == b"" and stdout_is_names(quiet), f"--quiet says {quiet.bytes!r}")
        dumb = Run(folder, ["build"], TERM="dumb")
        insist(not ESCAPE.search(dumb.bytes) and table(dumb), "a terminal that knows no escapes gets them")
    print("terminal.py: lines for images and layers, a table at the end, and nothing left behind")


imgforge = Path(sys.argv[1]).resolve()
main()
