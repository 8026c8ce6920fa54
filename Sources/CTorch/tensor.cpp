// Creation, properties, random numbers and in-place updates.
#include "internal.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/multinomial.h>

using namespace ctorch;

static at::Generator &generatorOf(CTorchGenerator handle) { return *reinterpret_cast<at::Generator *>(handle); }

extern "C" {

// MARK: creation

int32_t ctorch_tensor_empty(const int64_t *shape, int32_t dims, int32_t dtype, CTorchDevice device, CTorchTensor *out) {
  CTORCH_MAKE(at::empty(sizes(shape, dims), options(dtype, deviceOf(device))));
}

int32_t ctorch_tensor_full(const int64_t *shape, int32_t dims, int32_t dtype, CTorchDevice device, double value,
                           CTorchTensor *out) {
  CTORCH_MAKE(at::full(sizes(shape, dims), value, options(dtype, deviceOf(device))));
}

int32_t ctorch_tensor_pinned(const int64_t *shape, int32_t dims, int32_t dtype, CTorchTensor *out) {
  CTORCH_MAKE(at::empty(sizes(shape, dims), options(dtype).pinned_memory(!isDryRun)));
}

int32_t ctorch_tensor_arange(int64_t end, CTorchTensor *out) { CTORCH_MAKE(at::arange(end, options(4))); }

int32_t ctorch_tensor_from_blob(void *data, const int64_t *shape, int32_t dims, int32_t dtype, CTorchRelease release,
                                void *context, CTorchTensor *out) {
  auto owner = std::make_shared<Context>(context, release);
  CTORCH_MAKE(at::from_blob(data, sizes(shape, dims), [owner](void *) {}, options(dtype)));
}

int32_t ctorch_tensor_alias(CTorchTensor value, CTorchTensor *out) { CTORCH_MAKE(tensor(value)); }

void ctorch_tensor_free(CTorchTensor handle) {
  delete reinterpret_cast<at::Tensor *>(handle);
  --liveTensors;
}

// MARK: properties

int32_t ctorch_tensor_dims(CTorchTensor value) { return static_cast<int32_t>(tensor(value).dim()); }
const int64_t *ctorch_tensor_sizes(CTorchTensor value) { return tensor(value).sizes().data(); }
const int64_t *ctorch_tensor_strides(CTorchTensor value) { return tensor(value).strides().data(); }
int64_t ctorch_tensor_numel(CTorchTensor value) { return tensor(value).numel(); }
int32_t ctorch_tensor_dtype(CTorchTensor value) { return static_cast<int32_t>(tensor(value).scalar_type()); }
CTorchDevice ctorch_tensor_device(CTorchTensor value) {
  const auto device = tensor(value).device();
  return {static_cast<int32_t>(device.type()), device.has_index() ? device.index() : 0};
}
bool ctorch_tensor_is_contiguous(CTorchTensor value) { return tensor(value).is_contiguous(); }
bool ctorch_tensor_is_same(CTorchTensor left, CTorchTensor right) { return tensor(left).is_same(tensor(right)); }

const void *ctorch_tensor_identity(CTorchTensor value) { return tensor(value).unsafeGetTensorImpl(); }
int32_t ctorch_tensor_data(CTorchTensor value, void **out) { CTORCH_TRY(*out = tensor(value).data_ptr()); }
int32_t ctorch_tensor_item(CTorchTensor value, double *out) { CTORCH_TRY(*out = tensor(value).item().toDouble()); }

// MARK: random

int32_t ctorch_generator_make(uint64_t seed, CTorchGenerator *out) {
  CTORCH_TRY(*out = reinterpret_cast<CTorchGenerator>(
                 new at::Generator(at::make_generator<at::CPUGeneratorImpl>(seed))));
}

void ctorch_generator_free(CTorchGenerator generator) { delete reinterpret_cast<at::Generator *>(generator); }

int32_t ctorch_random_uniform(CTorchTensor value, double low, double high, CTorchGenerator generator) {
  CTORCH_TRY(tensor(value).uniform_(low, high, generatorOf(generator)));
}

int32_t ctorch_random_normal(CTorchTensor value, double mean, double deviation, CTorchGenerator generator) {
  CTORCH_TRY(tensor(value).normal_(mean, deviation, generatorOf(generator)));
}

int32_t ctorch_random_bernoulli(CTorchTensor value, double probability, CTorchGenerator generator) {
  CTORCH_TRY(tensor(value).bernoulli_(probability, generatorOf(generator)));
}

int32_t ctorch_random_multinomial(CTorchTensor probabilities, CTorchGenerator generator, CTorchTensor *out) {
  CTORCH_MAKE(at::multinomial(tensor(probabilities), 1, false, generatorOf(generator)));
}

// MARK: in place

int32_t ctorch_inplace_copy(CTorchTensor target, CTorchTensor source) {
  CTORCH_TRY(tensor(target).copy_(tensor(source)));
}

int32_t ctorch_inplace_add(CTorchTensor target, CTorchTensor other, double scale) {
  CTORCH_TRY(tensor(target).add_(tensor(other), scale));
}

int32_t ctorch_inplace_mul_scalar(CTorchTensor target, double value) { CTORCH_TRY(tensor(target).mul_(value)); }

int32_t ctorch_inplace_fill(CTorchTensor target, double value) { CTORCH_TRY(tensor(target).fill_(value)); }

int32_t ctorch_inplace_lerp(CTorchTensor target, CTorchTensor end, double weight) {
  CTORCH_TRY(tensor(target).lerp_(tensor(end), weight));
}

int32_t ctorch_inplace_addcmul(CTorchTensor target, CTorchTensor first, CTorchTensor second, double value) {
  CTORCH_TRY(tensor(target).addcmul_(tensor(first), tensor(second), value));
}

int32_t ctorch_inplace_addcdiv(CTorchTensor target, CTorchTensor numerator, CTorchTensor denominator, double value) {
  CTORCH_TRY(tensor(target).addcdiv_(tensor(numerator), tensor(denominator), value));
}

}
