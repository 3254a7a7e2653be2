#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/types.h>

// One block for a row.
__global__ void clip(float *rows, int64_t width, float limit) {
    __shared__ float sums[256];
    float *row = rows + blockIdx.x * width;
    float squares = 0;
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) squares += row[j] * row[j];
    sums[threadIdx.x] = squares;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    __syncthreads();
    if (sums[0] <= limit * limit) return;
    const float scale = limit * rsqrtf(sums[0]);
    for (int64_t j = threadIdx.x; j < width; j += blockDim.x) row[j] *= scale;
}

torch::Tensor clip_rows_cuda(const torch::Tensor &rows, double limit) {
    const c10::cuda::CUDAGuard guard(rows.device());
    torch::Tensor out = rows.contiguous().clone();
    if (out.numel() > 0) {
        clip<<<out.size(0), 256, 0, at::cuda::getCurrentCUDAStream()>>>(out.data_ptr<float>(), out.size(1), limit);
        C10_CUDA_KERNEL_LAUNCH_CHECK();
    }
    return out;
}
