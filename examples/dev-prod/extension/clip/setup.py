"""Builds clip_rows with the nvcc that CUDA_HOME has."""

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    ext_modules=[CUDAExtension("clip_rows", ["clip_rows.cpp", "kernel.cu"])],
    cmdclass={"build_ext": BuildExtension},
)
