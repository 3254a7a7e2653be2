#!/bin/bash
# A CUDA toolkit of wheels: nvcc, headers and runtime of PyPI's CUDA 13, which two links of images.toml make a CUDA_HOME.
# Compiles a program with a kernel by it, linked by -lcudart, and runs it in an image with the runtime's wheel alone. The
# machine needs no GPU: the program says that there is none.
#
#   tests/artifacts/cuda.sh IMGFORGE
#
# Fetches some 250 MB: the wheels that examples/dev-prod/extension/uv.lock has, and Debian packages.
set -euo pipefail
cd "$(dirname "$0")/../.."

imgforge=$(realpath "${1:?usage: cuda.sh IMGFORGE}")
die() { echo "cuda.sh: $*" >&2; exit 1; }
step() { echo "cuda: $* ($SECONDS s)" >&2; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export IMGFORGE_STORE=$scratch/store
mkdir "$scratch/project"
# The lock's packages of CUDA alone, as a pylock.toml.
python3 - examples/dev-prod/extension/uv.lock "$scratch/project" <<'END'
import pathlib, sys, tomllib
lock, project = sys.argv[1:]
names = ["cccl", "crt", "nvcc", "runtime"]
names = {f"nvidia-cuda-{name}" for name in names} | {"nvidia-nvvm"}
for file, wanted in [("pylock.toml", names), ("pylock.runtime.toml", {"nvidia-cuda-runtime"})]:
    text = 'lock-version = "1.0"\ncreated-by = "cuda.sh"\n'
    for package in tomllib.load(open(lock, "rb"))["package"]:
        if package["name"] in wanted:
            text += f'[[packages]]\nname = "{package["name"]}"\nversion = "{package["version"]}"\n'
            for wheel in package["wheels"]:
                text += f'[[packages.wheels]]\nurl = "{wheel["url"]}"\n'
                text += f'hashes = {{ sha256 = "{wheel["hash"].removeprefix("sha256:")}" }}\n'
    pathlib.Path(project, file).write_text(text)
END
cd "$scratch/project"
cat > double.cu <<'END'
#include <cstdio>
#include <cuda/std/array>  // of cccl
#include <cuda_runtime.h>
__global__ void twice(float *values) { values[threadIdx.x] *= 2; }
int main() {
    int count = 0, version = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    cudaRuntimeGetVersion(&version);
    printf("CUDA %d.%d, %s\n", version / 1000, version % 1000 / 10, error == cudaSuccess ? "a GPU" : "no GPU");
    cuda::std::array<float, 1> one{21};
    float *there;
    if (error != cudaSuccess || cudaMalloc(&there, sizeof one) != cudaSuccess) return 0;
    cudaMemcpy(there, one.data(), sizeof one, cudaMemcpyHostToDevice);
    twice<<<1, 1>>>(there);
    cudaMemcpy(one.data(), there, sizeof one, cudaMemcpyDeviceToHost);
    return one[0] != 42;
}
END
cat > images.toml <<END
version = 1
[settings]
platforms = ["linux/amd64"]

[base.builder]
debian = "bookworm"
configure = true
packages = ["base-passwd", "coreutils", "dash", "g++", "sed"]

[base.runtime]
debian = "bookworm"
packages = ["dash", "libstdc++6"]

[env.toolkit]
lock = "pylock.toml"
prefix = "/opt/cuda"
python = "3.11"
interpreter = "/usr/bin/python3.11"
[env.toolkit.links]
"lib/python3.11/site-packages/nvidia/cu13/lib64" = "lib"
"lib/python3.11/site-packages/nvidia/cu13/lib/libcudart.so" = "libcudart.so.13"

[env.cudart]
lock = "pylock.runtime.toml"
kind = "pylock"
prefix = "/opt/cudart"
python = "3.11"
interpreter = "/usr/bin/python3.11"

[artifact.double]
script = """
\$CUDA_HOME/bin/nvcc -arch=sm_90 -cudart shared -o /usr/local/bin/double /build/sources/double.cu
"""
sources = [{ url = "double.cu", sha256 = "$(sha256sum double.cu | cut -d' ' -f1)" }]
outputs = ["/usr/local/bin/double"]
env = "toolkit"
builder = "builder"
key = ["cuda", "g++-12"]
build-env = { CUDA_HOME = "/opt/cuda/lib/python3.11/site-packages/nvidia/cu13", PATH = "/usr/bin:/bin" }

[image.out]
base = "runtime"
envs = ["cudart"]
artifacts = ["double"]
env = { LD_LIBRARY_PATH = "/opt/cudart/lib/python3.11/site-packages/nvidia/cu13/lib" }
smoke = [["double"]]
END

step "compiled by the wheels' nvcc, and run without them"
"$imgforge" test --json > "$scratch/tested.json" 2> "$scratch/log" ||
    { tail -40 "$scratch/log" "$scratch/tested.json" >&2; die "it can't be built, or does not run"; }
python3 -c '
import json, sys
[result] = json.load(open(sys.argv[1]))["results"]
print(result["output"].strip(), file=sys.stderr)
sys.exit(not result["output"].startswith("CUDA 13.0, "))' "$scratch/tested.json" || die "the program does not run"

step "without the links, the linker finds no runtime"
sed -i '/^\[env.toolkit.links\]/,/^$/d' images.toml
"$imgforge" build > /dev/null 2> "$scratch/log" && die "it is linked without libcudart.so"
grep -q "cannot find -lcudart" "$scratch/log" || { tail -20 "$scratch/log" >&2; die "another failure"; }
grep -q "^building double" "$scratch/log" || die "a build without the links is the same one"

step "everything is well"
