#!/usr/bin/env python3
"""Turns the JSON that `run` writes into the table that README.md has: `report.py results.json`."""

import json
import sys
from pathlib import Path
from statistics import median

SCENARIOS = {
    "first": "first build, the wheels already downloaded",
    "unchanged": "nothing changed",
    "file": "one application file changed",
    "package": "one small package bumped",
}


def table(results: dict) -> str:
    """The measurements as Markdown: medians, with ratios to buildah and to the limit."""
    measurements = results["measurements"]

    def middle(name: str, field: str) -> float | None:
        runs = measurements.get(name)
        return median(run[field] for run in runs) if runs else None

    wheels, image, machine = results["wheels"], results["image"], results["machine"]
    lines = [
        f"{wheels['count']} wheels, {wheels['bytes'] / 1e9:.1f} GB; {image['layers']} layers, "
        f"{image['bytes'] / 1e9:.1f} GB. {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory'] / 1e9:.0f} GB of memory, {machine['file system']}. "
        f"{', '.join(results['versions'].values())}"
        + (f", storage driver {results['storage driver']}" if "storage driver" in results else "")
        + f". {results['date'][:10]}.",
        "",
        "| | imgforge | peak memory | buildah: build + push | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, title in SCENARIOS.items():
        ours = middle(f"imgforge {name}", "seconds")
        memory = middle(f"imgforge {name}", "max_rss")
        build, push = (middle(f"buildah {name}: {step}", "seconds") for step in ("build", "push"))
        theirs, ratio = "", ""
        if build is not None and push is not None:
            theirs = f"{seconds(build)} + {seconds(push)}"
            times = (build + push) / ours
            ratio = f"{times:.1f} ×" if times < 100 else f"{times:.0f} ×"
        lines.append(f"| {title} | {seconds(ours)} | {megabytes(memory)} | {theirs} | {ratio} |")

    first, limit, disk = (middle(name, "seconds") for name in ("imgforge first", "limit", "disk"))
    lines += [
        "",
        f"Inflating each file of the wheels once and hashing both streams, with nothing written, takes {seconds(limit)} "
        f"here: the first build takes {first / limit:.2f} times that. Writing as many bytes as the layers have and "
        f"syncing them takes this disk {seconds(disk)}.",
    ]
    return "\n".join(lines)


def seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def megabytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:.0f} MB"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
