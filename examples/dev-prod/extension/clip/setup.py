"""Builds clip_rows with the nvcc that CUDA_HOME has."""

from pathlib import Path

from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CUDAExtension

# NVIDIA's wheels have libcudart.so.13 and no libcudart.so, which the linker looks for.
links = Path("build/links")
links.mkdir(parents=True)
[runtime] = Path(CUDA_HOME, "lib").glob("libcudart.so.*")
(links / "libcudart.so").symlink_to(runtime)

setup(
    ext_modules=[CUDAExtension("clip_rows", ["clip_rows.cpp", "kernel.cu"], library_dirs=[str(links)])],
    cmdclass={"build_ext": BuildExtension},
)
