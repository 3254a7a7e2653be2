"""The wheels of a pylock.toml (stdin) for a target: see record.sh."""

import sys
import tomllib

from pip._vendor.packaging.markers import Marker
from pip._vendor.packaging.tags import compatible_tags, cpython_tags
from pip._vendor.packaging.utils import parse_wheel_filename
from urllib.parse import unquote

python, arch, libc = sys.argv[1:]
major, minor, *patch = (int(part) for part in python.split("."))
kind, libc_major, libc_minor = libc.rsplit("_", 2)
newest = int(libc_minor)

platforms = []
for version in range(newest, -1 if kind == "musllinux" else 4, -1):
    platforms.append(f"{kind}_{libc_major}_{version}_{arch}")
    legacy = {17: "2014", 12: "2010", 5: "1"}.get(version)
    if kind == "manylinux" and legacy and (legacy == "2014" or arch == "x86_64"):
        platforms.append(f"manylinux{legacy}_{arch}")
platforms.append(f"linux_{arch}")
if arch == "aarch64":
    platforms = [p for p in platforms if not p.startswith("manylinux_2_") or int(p.split("_")[2]) >= 17]

tags = list(cpython_tags((major, minor), platforms=platforms))
tags += list(compatible_tags((major, minor), f"cp{major}{minor}", platforms))
rank = {tag: index for index, tag in reversed(list(enumerate(tags)))}

full = f"{major}.{minor}.{patch[0] if patch else 0}"
environment = {
    "implementation_name": "cpython",
    "implementation_version": full,
    "os_name": "posix",
    "platform_machine": arch,
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": full,
    "python_version": f"{major}.{minor}",
    "sys_platform": "linux",
}

lines = []
for package in tomllib.load(sys.stdin.buffer)["packages"]:
    if "directory" in package:
        continue
    if "marker" in package and not Marker(package["marker"]).evaluate(environment):
        continue
    wheels = []
    for wheel in package.get("wheels", []):
        file = unquote(wheel["url"].rsplit("/", 1)[-1])
        _, _, build, wheel_tags = parse_wheel_filename(file)
        best = min((rank[tag] for tag in wheel_tags if tag in rank), default=None)
        if best is not None:
            wheels.append((-best, build, file))
    best = max(wheels)[2] if wheels else "-"
    lines.append((package["name"], f"{package['name']}=={package['version']} {best}"))
print("\n".join(line for _, line in sorted(lines)))
