// Differentiable operations, one line each: family by family as in ctorch.h.
#include "internal.h"

#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/div.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sign.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>

using namespace ctorch;

namespace {

// The flash kernel checks neither; it reads elsewhere.
void checkAttention(const at::Tensor &query, const at::Tensor &key, const at::Tensor &value) {
  TORCH_CHECK(query.dim() == 4 && key.dim() == 4, "query, key and value need 4 dimensions");
  TORCH_CHECK(query.size(0) == key.size(0) && query.size(1) == key.size(1) && query.size(3) == key.size(3),
              "query and key differ in batch, heads or head size");
  TORCH_CHECK(key.sizes() == value.sizes(), "key and value differ in shape");
}

// The flash kernel takes any strides but expects the elements of a head side by side.
at::Tensor withDenseRows(const at::Tensor &value) { return value.stride(-1) == 1 ? value : value.contiguous(); }

std::optional<at::Tensor> optional(CTorchTensor handle) {
  return handle ? std::optional<at::Tensor>(tensor(handle)) : std::nullopt;
}

}  // namespace

#define CTORCH_UNARY(family, name) \
  int32_t ctorch_##family##_##name(CTorchTensor value, CTorchTensor *out) { CTORCH_MAKE(at::name(tensor(value))); }
#define CTORCH_BINARY(family, name)                                                                  \
  int32_t ctorch_##family##_##name(CTorchTensor left, CTorchTensor right, CTorchTensor *out) {       \
    CTORCH_MAKE(at::name(tensor(left), tensor(right)));                                              \
  }

extern "C" {

// MARK: element-wise

int32_t ctorch_elementwise_add(CTorchTensor left, CTorchTensor right, double scale, CTorchTensor *out) {
  CTORCH_MAKE(at::add(tensor(left), tensor(right), scale));
}
CTORCH_BINARY(elementwise, sub)
CTORCH_BINARY(elementwise, mul)
CTORCH_BINARY(elementwise, div)
int32_t ctorch_elementwise_add_scalar(CTorchTensor value, double scalar, CTorchTensor *out) {
  CTORCH_MAKE(at::add(tensor(value), scalar));
}
int32_t ctorch_elementwise_mul_scalar(CTorchTensor value, double scalar, CTorchTensor *out) {
  CTORCH_MAKE(at::mul(tensor(value), scalar));
}
CTORCH_BINARY(elementwise, pow)
int32_t ctorch_elementwise_pow_scalar(CTorchTensor value, double exponent, CTorchTensor *out) {
  CTORCH_MAKE(at::pow(tensor(value), exponent));
}
CTORCH_UNARY(elementwise, neg)
CTORCH_UNARY(elementwise, abs)
CTORCH_UNARY(elementwise, sign)
CTORCH_UNARY(elementwise, exp)
CTORCH_UNARY(elementwise, log)
CTORCH_UNARY(elementwise, sqrt)
CTORCH_UNARY(elementwise, rsqrt)
CTORCH_UNARY(elementwise, sin)
CTORCH_UNARY(elementwise, cos)
CTORCH_UNARY(elementwise, sigmoid)
CTORCH_UNARY(elementwise, silu)
CTORCH_UNARY(elementwise, tanh)
int32_t ctorch_elementwise_gelu(CTorchTensor value, bool usesTanh, CTorchTensor *out) {
  CTORCH_MAKE(at::gelu(tensor(value), usesTanh ? "tanh" : "none"));
}
int32_t ctorch_elementwise_to(CTorchTensor value, int32_t dtype, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).to(static_cast<at::ScalarType>(dtype)));
}

// MARK: reductions

CTORCH_UNARY(reduce, sum)
int32_t ctorch_reduce_sum_dims(CTorchTensor value, const int64_t *axes, int32_t count, bool keep, CTorchTensor *out) {
  CTORCH_MAKE(at::sum(tensor(value), sizes(axes, count), keep));
}
CTORCH_UNARY(reduce, mean)
int32_t ctorch_reduce_mean_dims(CTorchTensor value, const int64_t *axes, int32_t count, bool keep, CTorchTensor *out) {
  CTORCH_MAKE(at::mean(tensor(value), sizes(axes, count), keep));
}
CTORCH_UNARY(reduce, max)
int32_t ctorch_reduce_argmax(CTorchTensor value, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(at::argmax(tensor(value), axis));
}
int32_t ctorch_reduce_norm(CTorchTensor value, CTorchTensor *out) {
  CTORCH_MAKE(at::linalg_vector_norm(tensor(value), 2, std::nullopt, false, at::kDouble));
}
int32_t ctorch_reduce_all_finite(CTorchTensor value, bool *out) {
  CTORCH_TRY(*out = at::isfinite(tensor(value)).all().item<bool>());
}
int32_t ctorch_reduce_equal(CTorchTensor left, CTorchTensor right, bool *out) {
  CTORCH_TRY(*out = at::equal(tensor(left), tensor(right)));
}

// MARK: shape

int32_t ctorch_shape_reshape(CTorchTensor value, const int64_t *shape, int32_t dims, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).reshape(sizes(shape, dims)));
}
int32_t ctorch_shape_transpose(CTorchTensor value, int64_t first, int64_t second, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).transpose(first, second));
}
int32_t ctorch_shape_permute(CTorchTensor value, const int64_t *axes, int32_t dims, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).permute(sizes(axes, dims)));
}
int32_t ctorch_shape_narrow(CTorchTensor value, int64_t axis, int64_t start, int64_t length, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).narrow(axis, start, length));
}
int32_t ctorch_shape_select(CTorchTensor value, int64_t axis, int64_t index, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).select(axis, index));
}
int32_t ctorch_shape_unsqueeze(CTorchTensor value, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).unsqueeze(axis));
}
int32_t ctorch_shape_expand(CTorchTensor value, const int64_t *shape, int32_t dims, CTorchTensor *out) {
  CTORCH_MAKE(tensor(value).expand(sizes(shape, dims)));
}
int32_t ctorch_shape_contiguous(CTorchTensor value, CTorchTensor *out) { CTORCH_MAKE(tensor(value).contiguous()); }
int32_t ctorch_shape_clone(CTorchTensor value, CTorchTensor *out) { CTORCH_MAKE(tensor(value).clone()); }
int32_t ctorch_shape_cat(const CTorchTensor *tensors, int32_t count, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(at::cat(list(tensors, count), axis));
}
int32_t ctorch_shape_stack(const CTorchTensor *tensors, int32_t count, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(at::stack(list(tensors, count), axis));
}
int32_t ctorch_shape_index_select(CTorchTensor value, int64_t axis, CTorchTensor indices, CTorchTensor *out) {
  CTORCH_MAKE(at::index_select(tensor(value), axis, tensor(indices)));
}
int32_t ctorch_shape_index_add(CTorchTensor value, int64_t axis, CTorchTensor indices, CTorchTensor source,
                               CTorchTensor *out) {
  CTORCH_MAKE(at::index_add(tensor(value), axis, tensor(indices), tensor(source)));
}
int32_t ctorch_shape_sort(CTorchTensor value, bool descending, CTorchTensor *values, CTorchTensor *indices) {
  CTORCH_TRY(auto [sorted, order] = at::sort(tensor(value), /*stable=*/true, /*dim=*/-1, descending);
             *values = makeHandle(std::move(sorted)); *indices = makeHandle(std::move(order)));
}
int32_t ctorch_shape_cumsum(CTorchTensor value, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(at::cumsum(tensor(value), axis));
}

// MARK: linear algebra and neural-network operations

int32_t ctorch_linalg_inv(CTorchTensor value, CTorchTensor *out) {
  CTORCH_MAKE(at::linalg_inv(tensor(value)));
}
int32_t ctorch_linalg_qr(CTorchTensor value, CTorchTensor *q, CTorchTensor *r) {
  CTORCH_TRY(auto [orthonormal, upper] = at::linalg_qr(tensor(value), "reduced");
             *q = makeHandle(std::move(orthonormal)); *r = makeHandle(std::move(upper)));
}
int32_t ctorch_linalg_svd(CTorchTensor value, CTorchTensor *u, CTorchTensor *s, CTorchTensor *vt) {
  CTORCH_TRY(auto [left, singular, right] = at::linalg_svd(tensor(value), /*full_matrices=*/false);
             *u = makeHandle(std::move(left)); *s = makeHandle(std::move(singular));
             *vt = makeHandle(std::move(right)));
}

CTORCH_BINARY(linalg, matmul)
int32_t ctorch_linalg_linear(CTorchTensor input, CTorchTensor weight, CTorchTensor bias, CTorchTensor *out) {
  CTORCH_MAKE(bias ? at::linear(tensor(input), tensor(weight), tensor(bias))
                   : at::linear(tensor(input), tensor(weight)));
}
CTORCH_BINARY(nn, embedding)
int32_t ctorch_nn_softmax(CTorchTensor value, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(at::softmax(tensor(value), axis));
}
int32_t ctorch_nn_log_softmax(CTorchTensor value, int64_t axis, CTorchTensor *out) {
  CTORCH_MAKE(at::log_softmax(tensor(value), axis));
}
int32_t ctorch_nn_layer_norm(CTorchTensor input, CTorchTensor weight, CTorchTensor bias, double epsilon,
                             CTorchTensor *out) {
  CTORCH_MAKE(at::layer_norm(tensor(input), tensor(weight).sizes(), tensor(weight), tensor(bias), epsilon));
}
int32_t ctorch_nn_cross_entropy(CTorchTensor logits, CTorchTensor targets, bool reduce, CTorchTensor *out) {
  CTORCH_MAKE(at::cross_entropy_loss(tensor(logits), tensor(targets), {},
                                     reduce ? at::Reduction::Sum : at::Reduction::None));
}
int32_t ctorch_nn_attention(CTorchTensor query, CTorchTensor key, CTorchTensor value, CTorchTensor mask, bool causal,
                            double scale, CTorchTensor *out, CTorchTensor *logSumExp) {
  CTORCH_TRY(checkAttention(tensor(query), tensor(key), tensor(value));
             auto [output, statistics] = at::_scaled_dot_product_flash_attention_for_cpu(
                 withDenseRows(tensor(query)), withDenseRows(tensor(key)), withDenseRows(tensor(value)), 0.0, causal,
                 optional(mask), scale);
             *out = makeHandle(std::move(output)); *logSumExp = makeHandle(std::move(statistics)));
}
int32_t ctorch_nn_device_attention(CTorchTensor query, CTorchTensor key, CTorchTensor value, CTorchTensor mask, bool causal,
                                   double scale, CTorchTensor *out) {
  CTORCH_MAKE(at::scaled_dot_product_attention(
      tensor(query), tensor(key), tensor(value), optional(mask), 0.0, causal, scale));
}
int32_t ctorch_nn_attention_backward(CTorchTensor gradient, CTorchTensor query, CTorchTensor key, CTorchTensor value,
                                     CTorchTensor output, CTorchTensor logSumExp, CTorchTensor mask, bool causal,
                                     double scale, CTorchTensor *queryGradient, CTorchTensor *keyGradient,
                                     CTorchTensor *valueGradient) {
  CTORCH_TRY(checkAttention(tensor(query), tensor(key), tensor(value));
             TORCH_CHECK(tensor(gradient).sizes() == tensor(query).sizes(), "gradient and query differ in shape");
             auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
                 withDenseRows(tensor(gradient)), withDenseRows(tensor(query)), withDenseRows(tensor(key)),
                 withDenseRows(tensor(value)), tensor(output), tensor(logSumExp), 0.0, causal, optional(mask), scale);
             *queryGradient = makeHandle(std::move(dq)); *keyGradient = makeHandle(std::move(dk));
             *valueGradient = makeHandle(std::move(dv)));
}

}
