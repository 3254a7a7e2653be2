"""Asks a project's build backend for one wheel (PEP 517, PEP 660), and writes down how that went.

    python driver.py REQUEST.json

Runs within the environment that the wheel is built in, with nothing but the standard library of Python 3.8 and later.
The request and the result are described in the Rust module beside this file. The exit code is 0 when there is a wheel.
"""

import importlib
import json
import os
import re
import sys
import traceback


class Failure(Exception):
    """Something that can be said in one sentence."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    # Nothing of the project is to be found beside this file, and no backend is to read its arguments.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    del sys.argv[1:]
    try:
        result = {"wheel": build(request)}
    except Failure as failure:
        result = failed(failure.kind, str(failure), request)
    except ImportError as error:
        traceback.print_exc()
        result = failed("import", "{}: {}".format(type(error).__name__, error), request)
    except SystemExit as error:
        # setuptools ends the whole program when a compiler fails.
        result = failed("build", "the backend ended with: {}".format(error.code), request)
    except Exception as error:
        traceback.print_exc()
        result = failed("build", "{}: {}".format(type(error).__name__, error), request)
    sys.stdout.flush()
    # A result is there as a whole or not at all.
    partial = request["result"] + ".partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(partial, request["result"])
    return 0 if "wheel" in result else 1


def build(request):
    os.chdir(request["source"])
    backend = load(request)
    name = request["hook"]
    hook = getattr(backend, name, None)
    if hook is None:
        raise Failure("hook", "the backend `{}` has no `{}`".format(request["backend"], name))
    os.makedirs(request["out"], exist_ok=True)
    wheel = hook(request["out"], request["config_settings"] or None, None)
    if not isinstance(wheel, str) or os.path.basename(wheel) != wheel or not wheel.endswith(".whl"):
        raise Failure("result", "the backend returned {!r}, which is no wheel's file name".format(wheel))
    if not os.path.isfile(os.path.join(request["out"], wheel)):
        raise Failure("result", "the backend returned {!r}, and there is no such file".format(wheel))
    return wheel


def load(request):
    paths = [os.path.abspath(path) for path in request["backend_path"]]
    sys.path[:0] = paths
    module, _, names = request["backend"].partition(":")
    try:
        backend = importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Only when the backend itself is not there; what a backend lacks in turn is another matter.
        if error.name and (module + ".").startswith(error.name + "."):
            raise Failure("backend", "there is no module `{}`".format(error.name))
        raise
    if paths and not within(getattr(backend, "__file__", None), paths):
        message = "`{}` is to come from backend-path, and comes from {}"
        raise Failure("backend", message.format(module, getattr(backend, "__file__", None)))
    for name in filter(None, names.split(".")):
        if not hasattr(backend, name):
            raise Failure("backend", "`{}` has no `{}`".format(module, names))
        backend = getattr(backend, name)
    return backend


def within(file, folders):
    if not file:
        return False
    file = os.path.realpath(file)
    return any(file.startswith(os.path.join(os.path.realpath(folder), "")) for folder in folders)


def failed(kind, message, request):
    print("{}: {}".format(kind, message), file=sys.stderr)
    return {"failure": {"kind": kind, "message": message, "lacking": lacking(request["requires"])}}


def lacking(requires):
    """The requirements of which no distribution is installed, as they are written."""
    from importlib.metadata import distributions

    installed = {normalise(each.metadata["Name"] or "") for each in distributions()}
    names = ((each, re.match(r"\s*([A-Za-z0-9._-]+)", each)) for each in requires)
    return [each for each, name in names if name and normalise(name.group(1)) not in installed]


def normalise(name):
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
