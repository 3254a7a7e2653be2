// Scales the rows of a matrix that are longer than a limit down to it.
#include <torch/extension.h>

torch::Tensor clip_rows_cuda(const torch::Tensor &rows, double limit);

static torch::Tensor clip_rows_cpu(const torch::Tensor &rows, double limit) {
    torch::Tensor out = rows.clone();
    auto row = out.accessor<float, 2>();
    for (int64_t i = 0; i < row.size(0); i++) {
        double squares = 0;
        for (int64_t j = 0; j < row.size(1); j++) squares += double(row[i][j]) * row[i][j];
        if (squares <= limit * limit) continue;
        const float scale = limit / std::sqrt(squares);
        for (int64_t j = 0; j < row.size(1); j++) row[i][j] *= scale;
    }
    return out;
}

static torch::Tensor clip_rows(const torch::Tensor &rows, double limit) {
    TORCH_CHECK(rows.dim() == 2 && rows.scalar_type() == torch::kFloat, "clip_rows is for matrices of float32");
    return rows.is_cuda() ? clip_rows_cuda(rows, limit) : clip_rows_cpu(rows, limit);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
    module.def("clip_rows", &clip_rows, "Scales rows that are longer than a limit down to it");
}
