// libtorch behind a C ABI: the only door to torch headers in this package.
//
// Conventions
// - Every fallible function returns int32_t: 0 = success, 1 = failure; then `ctorch_last_error()` (per thread) has the
//   reason. No C++ exception leaves this library, and none crosses a Swift frame.
// - `CTorchTensor` is an owning handle on one at::Tensor. Parameters are borrowed (+0); a handle written to `out` is
//   owned by the caller (+1), who frees it once with `ctorch_tensor_free`.
// - dtypes are the codes of c10::ScalarType (uint8 0, int8 1, int16 2, int32 3, int64 4, float16 5, float32 6,
//   float64 7, bool 11, bfloat16 15).
// - Devices are the codes of c10::DeviceType (CPU 0, CUDA 1, PrivateUse1 20) with an index, 0 for the CPU.
// - A callback context is released exactly once, by the last C++ owner.
#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CTorchTensorHandle *CTorchTensor;
typedef struct CTorchGeneratorHandle *CTorchGenerator;
typedef struct CTorchStoreHandle *CTorchStore;
typedef struct CTorchGroupHandle *CTorchGroup;
typedef struct CTorchWorkHandle *CTorchWork;
typedef struct CTorchCopyHandle *CTorchCopy;
typedef void (*CTorchRelease)(void *context);
typedef struct {
  int32_t type;
  int32_t index;
} CTorchDevice;

// MARK: errors and runtime
const char *ctorch_last_error(void);
void ctorch_set_callback_error(const char *message);
const char *ctorch_runtime_header_version(void);
void ctorch_runtime_end_with_parent(void);  // the kernel kills this process when its parent ends
const char *ctorch_runtime_configuration(void);
int32_t ctorch_runtime_set_num_threads(int32_t count);
int32_t ctorch_runtime_num_threads(void);
// Calls body(data, thread) once for each thread in [0, count), on libtorch's threads where it has OpenMP; returns when all ended.
void ctorch_runtime_parallel(
    int32_t count, void (*body)(void *data, int32_t thread), void *data);
// Whether the processor multiplies bfloat16 itself; if not, libtorch emulates it several times slower than float32.
// Not either if PEFT_INSTRUCTION_SET in the environment names a set without them.
bool ctorch_runtime_has_bfloat16_products(void);
int64_t ctorch_runtime_live_tensors(void);
int64_t ctorch_runtime_live_contexts(void);

// MARK: creation
int32_t ctorch_tensor_empty(const int64_t *sizes, int32_t dims, int32_t dtype, CTorchDevice device, CTorchTensor *out);
int32_t ctorch_tensor_full(const int64_t *sizes, int32_t dims, int32_t dtype, CTorchDevice device, double value,
                           CTorchTensor *out);
int32_t ctorch_tensor_pinned(const int64_t *sizes, int32_t dims, int32_t dtype, CTorchTensor *out);  // page-locked
int32_t ctorch_tensor_arange(int64_t end, CTorchTensor *out);
// Zero copy; `release(context)` runs when the storage dies, also when this call fails.
int32_t ctorch_tensor_from_blob(void *data, const int64_t *sizes, int32_t dims, int32_t dtype, CTorchRelease release,
                                void *context, CTorchTensor *out);
int32_t ctorch_tensor_alias(CTorchTensor tensor, CTorchTensor *out);
void ctorch_tensor_free(CTorchTensor tensor);

// MARK: properties
int32_t ctorch_tensor_dims(CTorchTensor tensor);
const int64_t *ctorch_tensor_sizes(CTorchTensor tensor);
const int64_t *ctorch_tensor_strides(CTorchTensor tensor);  // in elements
int64_t ctorch_tensor_numel(CTorchTensor tensor);
int32_t ctorch_tensor_dtype(CTorchTensor tensor);
CTorchDevice ctorch_tensor_device(CTorchTensor tensor);
bool ctorch_tensor_is_contiguous(CTorchTensor tensor);
bool ctorch_tensor_is_same(CTorchTensor left, CTorchTensor right);
const void *ctorch_tensor_identity(CTorchTensor tensor);  // the same for handles of one tensor
int32_t ctorch_tensor_data(CTorchTensor tensor, void **out);
int32_t ctorch_tensor_item(CTorchTensor tensor, double *out);

// MARK: devices
int32_t ctorch_device_count(int32_t type);  // those that can be used now; 0 also where this build has none
bool ctorch_device_is_cuda_build(void);
const char *ctorch_device_name(int32_t type);  // `cuda`; valid until the next call on this thread
int32_t ctorch_device_memory(CTorchDevice device, int64_t *freeBytes, int64_t *totalBytes);
// The tensor itself if it is there. A copy from page-locked memory is not waited for: what is queued later on the device
// comes after it.
int32_t ctorch_device_copy(CTorchTensor tensor, CTorchDevice device, CTorchTensor *out);
// Begins to copy to a device, beside what it computes, when it has done what was queued until now; +1 to `out`.
int32_t ctorch_device_copy_aside(CTorchTensor target, CTorchTensor source, CTorchCopy *out);
int32_t ctorch_device_copy_wait(CTorchCopy copy);  // what is queued on the device from here on comes after the copy
void ctorch_device_copy_free(CTorchCopy copy);
int32_t ctorch_device_synchronize(CTorchDevice device);  // waits for all that was queued

// MARK: storage whose memory comes and goes
// `size` bytes as uint8 without memory: using them is an error that says `message`, until memory is lent.
int32_t ctorch_storage_make(int64_t size, CTorchDevice device, const char *message, CTorchTensor *out);
// A tensor over the storage of `bytes`, from a byte offset on.
int32_t ctorch_storage_view(CTorchTensor bytes, int64_t offset, const int64_t *sizes, int32_t dims, int32_t dtype,
                            CTorchTensor *out);
// Gives every tensor over the storage of `bytes` the memory of `buffer`, which must be as large; null takes it away.
int32_t ctorch_storage_lend(CTorchTensor bytes, CTorchTensor buffer, const char *message);
// `tensor` becomes a view of what `source` is a view of; its identity, hooks and requires_grad stay.
int32_t ctorch_storage_adopt(CTorchTensor tensor, CTorchTensor source);

// MARK: random
int32_t ctorch_generator_make(uint64_t seed, CTorchGenerator *out);
void ctorch_generator_free(CTorchGenerator generator);
int32_t ctorch_random_uniform(CTorchTensor tensor, double low, double high, CTorchGenerator generator);
int32_t ctorch_random_normal(CTorchTensor tensor, double mean, double deviation, CTorchGenerator generator);
int32_t ctorch_random_bernoulli(CTorchTensor tensor, double probability, CTorchGenerator generator);
int32_t ctorch_random_multinomial(CTorchTensor probabilities, CTorchGenerator generator, CTorchTensor *out);

// MARK: element-wise
int32_t ctorch_elementwise_add(CTorchTensor left, CTorchTensor right, double scale, CTorchTensor *out);
int32_t ctorch_elementwise_sub(CTorchTensor left, CTorchTensor right, CTorchTensor *out);
int32_t ctorch_elementwise_mul(CTorchTensor left, CTorchTensor right, CTorchTensor *out);
int32_t ctorch_elementwise_div(CTorchTensor left, CTorchTensor right, CTorchTensor *out);
int32_t ctorch_elementwise_add_scalar(CTorchTensor tensor, double value, CTorchTensor *out);
int32_t ctorch_elementwise_mul_scalar(CTorchTensor tensor, double value, CTorchTensor *out);
int32_t ctorch_elementwise_pow(CTorchTensor left, CTorchTensor right, CTorchTensor *out);
int32_t ctorch_elementwise_pow_scalar(CTorchTensor tensor, double exponent, CTorchTensor *out);
int32_t ctorch_elementwise_neg(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_abs(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_sign(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_exp(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_log(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_sqrt(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_rsqrt(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_sin(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_cos(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_sigmoid(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_silu(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_tanh(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_elementwise_gelu(CTorchTensor tensor, bool usesTanh, CTorchTensor *out);
int32_t ctorch_elementwise_to(CTorchTensor tensor, int32_t dtype, CTorchTensor *out);

// MARK: reductions
int32_t ctorch_reduce_sum(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_reduce_sum_dims(CTorchTensor tensor, const int64_t *axes, int32_t count, bool keep, CTorchTensor *out);
int32_t ctorch_reduce_mean(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_reduce_mean_dims(CTorchTensor tensor, const int64_t *axes, int32_t count, bool keep, CTorchTensor *out);
int32_t ctorch_reduce_max(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_reduce_argmax(CTorchTensor tensor, int64_t axis, CTorchTensor *out);
// The result is float64.
int32_t ctorch_reduce_norm(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_reduce_all_finite(CTorchTensor tensor, bool *out);
int32_t ctorch_reduce_equal(CTorchTensor left, CTorchTensor right, bool *out);

// MARK: shape
int32_t ctorch_shape_reshape(CTorchTensor tensor, const int64_t *sizes, int32_t dims, CTorchTensor *out);
int32_t ctorch_shape_transpose(CTorchTensor tensor, int64_t first, int64_t second, CTorchTensor *out);
int32_t ctorch_shape_permute(CTorchTensor tensor, const int64_t *axes, int32_t dims, CTorchTensor *out);
int32_t ctorch_shape_narrow(CTorchTensor tensor, int64_t axis, int64_t start, int64_t length, CTorchTensor *out);
int32_t ctorch_shape_select(CTorchTensor tensor, int64_t axis, int64_t index, CTorchTensor *out);
int32_t ctorch_shape_unsqueeze(CTorchTensor tensor, int64_t axis, CTorchTensor *out);
int32_t ctorch_shape_expand(CTorchTensor tensor, const int64_t *sizes, int32_t dims, CTorchTensor *out);
int32_t ctorch_shape_contiguous(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_shape_clone(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_shape_cat(const CTorchTensor *tensors, int32_t count, int64_t axis, CTorchTensor *out);
int32_t ctorch_shape_stack(const CTorchTensor *tensors, int32_t count, int64_t axis, CTorchTensor *out);
int32_t ctorch_shape_index_select(CTorchTensor tensor, int64_t axis, CTorchTensor indices, CTorchTensor *out);
int32_t ctorch_shape_index_add(CTorchTensor tensor, int64_t axis, CTorchTensor indices, CTorchTensor source,
                               CTorchTensor *out);
int32_t ctorch_shape_sort(CTorchTensor tensor, bool descending, CTorchTensor *values, CTorchTensor *indices);
int32_t ctorch_shape_cumsum(CTorchTensor tensor, int64_t axis, CTorchTensor *out);

// MARK: linear algebra and neural-network operations
int32_t ctorch_linalg_matmul(CTorchTensor left, CTorchTensor right, CTorchTensor *out);
int32_t ctorch_linalg_inv(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_linalg_qr(CTorchTensor tensor, CTorchTensor *q, CTorchTensor *r);
int32_t ctorch_linalg_svd(CTorchTensor tensor, CTorchTensor *u, CTorchTensor *s, CTorchTensor *vt);
int32_t ctorch_linalg_linear(CTorchTensor input, CTorchTensor weight, CTorchTensor bias, CTorchTensor *out);
int32_t ctorch_nn_embedding(CTorchTensor weight, CTorchTensor indices, CTorchTensor *out);
int32_t ctorch_nn_softmax(CTorchTensor tensor, int64_t axis, CTorchTensor *out);
int32_t ctorch_nn_log_softmax(CTorchTensor tensor, int64_t axis, CTorchTensor *out);
int32_t ctorch_nn_layer_norm(CTorchTensor input, CTorchTensor weight, CTorchTensor bias, double epsilon,
                             CTorchTensor *out);
int32_t ctorch_nn_cross_entropy(CTorchTensor logits, CTorchTensor targets, bool reduce, CTorchTensor *out);
// mask: added to the scores, broadcast over batch and heads; NULL for none. Not both mask and causal.
int32_t ctorch_nn_attention(CTorchTensor query, CTorchTensor key, CTorchTensor value, CTorchTensor mask, bool causal,
                            double scale, CTorchTensor *out, CTorchTensor *logSumExp);
int32_t ctorch_nn_device_attention(CTorchTensor query, CTorchTensor key, CTorchTensor value, CTorchTensor mask, bool causal,
                                   double scale, CTorchTensor *out);
int32_t ctorch_nn_attention_backward(CTorchTensor gradient, CTorchTensor query, CTorchTensor key, CTorchTensor value,
                                     CTorchTensor output, CTorchTensor logSumExp, CTorchTensor mask, bool causal,
                                     double scale, CTorchTensor *queryGradient, CTorchTensor *keyGradient,
                                     CTorchTensor *valueGradient);

// MARK: in place (the caller runs them without grad)
int32_t ctorch_inplace_copy(CTorchTensor target, CTorchTensor source);
int32_t ctorch_inplace_add(CTorchTensor target, CTorchTensor other, double scale);
int32_t ctorch_inplace_mul_scalar(CTorchTensor target, double value);
int32_t ctorch_inplace_fill(CTorchTensor target, double value);
int32_t ctorch_inplace_lerp(CTorchTensor target, CTorchTensor end, double weight);
int32_t ctorch_inplace_addcmul(CTorchTensor target, CTorchTensor first, CTorchTensor second, double value);
int32_t ctorch_inplace_addcdiv(CTorchTensor target, CTorchTensor numerator, CTorchTensor denominator, double value);

// MARK: tracing (this thread's slot for the recorder that Swift keeps; NULL: nothing is traced)
void *ctorch_trace_recorder(void);
void ctorch_trace_set_recorder(void *recorder);

// MARK: autograd
bool ctorch_autograd_is_enabled(void);
bool ctorch_autograd_set_enabled(bool enabled);  // returns the previous value
bool ctorch_autograd_requires_grad(CTorchTensor tensor);
bool ctorch_autograd_has_graph(CTorchTensor tensor);
int32_t ctorch_autograd_set_requires_grad(CTorchTensor tensor, bool value);
int32_t ctorch_autograd_detach(CTorchTensor tensor, CTorchTensor *out);
int32_t ctorch_autograd_get_grad(CTorchTensor tensor, CTorchTensor *out);  // *out = NULL: no gradient
int32_t ctorch_autograd_set_grad(CTorchTensor tensor, CTorchTensor gradient);  // NULL clears
int32_t ctorch_autograd_backward(const CTorchTensor *outputs, const CTorchTensor *gradients, int32_t count,
                                 bool retain);
// result[i] = NULL: output does not depend on input i. `runHooks` false leaves out the gradient hooks of leaves.
int32_t ctorch_autograd_gradients(const CTorchTensor *outputs, const CTorchTensor *gradients, int32_t numOutputs,
                                  const CTorchTensor *inputs, int32_t numInputs, bool retain, bool runHooks,
                                  CTorchTensor *result);
// Writes one owned handle (or NULL) per forward input to `inputGradients`.
typedef int32_t (*CTorchPullback)(void *context, const CTorchTensor *outputGradients, int32_t numOutputs,
                                  CTorchTensor *inputGradients, int32_t numInputs);
// Makes outputs, computed without grad, differentiable with respect to inputs. Takes the context.
int32_t ctorch_autograd_node(const char *name, const CTorchTensor *inputs, int32_t numInputs,
                             const CTorchTensor *outputs, int32_t numOutputs, CTorchPullback pullback,
                             CTorchRelease release, void *context);
typedef int32_t (*CTorchGradHook)(void *context, CTorchTensor gradient, CTorchTensor *replacement);
int32_t ctorch_autograd_add_hook(CTorchTensor tensor, CTorchGradHook hook, CTorchRelease release, void *context,
                                 uint32_t *position);
int32_t ctorch_autograd_remove_hook(CTorchTensor tensor, uint32_t position);
typedef int32_t (*CTorchAccumulateHook)(void *context, CTorchTensor parameter);
int32_t ctorch_autograd_set_accumulate_hook(CTorchTensor tensor, CTorchAccumulateHook hook, CTorchRelease release,
                                            void *context);

// MARK: profiles of this thread and of the backward passes that it starts
int32_t ctorch_profile_begin(void);
int32_t ctorch_profile_end(const char *path);  // a Chrome trace; NULL: forgotten
bool ctorch_profile_is_on(void);
void *ctorch_profile_range_begin(const char *name);
void ctorch_profile_range_end(void *range);

// MARK: dry runs of this thread: new tensors are on the meta device, their bytes are counted by part
#define CTORCH_DRY_RUN_PARTS 8
void ctorch_dry_run_begin(void);  // from zero
void ctorch_dry_run_end(void);
bool ctorch_dry_run_is_on(void);
int32_t ctorch_dry_run_set_part(int32_t part);  // of allocations from here on; returns the part until here
void ctorch_dry_run_peak(int64_t *parts);       // CTORCH_DRY_RUN_PARTS numbers: when most bytes were alive

// MARK: distributed stores (+1 to `out`; freed once with `ctorch_distributed_store_free`)
int32_t ctorch_distributed_tcp_store(const char *host, uint16_t port, bool isServer, double timeoutSeconds,
                                     CTorchStore *out);
int32_t ctorch_distributed_file_store(const char *path, int32_t numRanks, double timeoutSeconds, CTorchStore *out);
int32_t ctorch_distributed_memory_store(CTorchStore *out);
int32_t ctorch_distributed_prefix_store(const char *prefix, CTorchStore store, CTorchStore *out);
void ctorch_distributed_store_free(CTorchStore store);
int32_t ctorch_distributed_store_set(CTorchStore store, const char *key, const uint8_t *value, size_t count);
int32_t ctorch_distributed_store_add(CTorchStore store, const char *key, int64_t amount, int64_t *out);
int32_t ctorch_distributed_store_check(CTorchStore store, const char *key, bool *out);
// The value stays valid until the next call on this thread.
int32_t ctorch_distributed_store_get(CTorchStore store, const char *key, double timeoutSeconds, const uint8_t **out,
                                     size_t *count);

// MARK: distributed groups. Every collective returns at once with work (+1). `call` says in words what this rank does;
// the ranks compare it before any data moves. Reductions: 0 sum, 1 average, 2 maximum. Tensors must be contiguous.
int32_t ctorch_distributed_num_nccl_devices(void);  // -1: built without NCCL
int32_t ctorch_distributed_connect(CTorchStore store, bool usesNCCL, int32_t rank, int32_t size, const char *address,
                                   double timeoutSeconds, CTorchGroup *out);  // address NULL: the host's own name
void ctorch_distributed_group_free(CTorchGroup group);  // after what was started has ended
int32_t ctorch_distributed_all_reduce(CTorchGroup group, const char *call, CTorchTensor tensor, int32_t reduction,
                                      CTorchWork *out);
int32_t ctorch_distributed_broadcast(CTorchGroup group, const char *call, CTorchTensor tensor, int32_t root,
                                     CTorchWork *out);
int32_t ctorch_distributed_all_gather(CTorchGroup group, const char *call, CTorchTensor input, CTorchTensor output,
                                      CTorchWork *out);
int32_t ctorch_distributed_reduce_scatter(CTorchGroup group, const char *call, CTorchTensor input, CTorchTensor output,
                                          int32_t reduction, CTorchWork *out);
int32_t ctorch_distributed_barrier(CTorchGroup group, const char *call, CTorchWork *out);
bool ctorch_distributed_work_wait(CTorchWork work);  // false: the group has failed
bool ctorch_distributed_work_is_finished(CTorchWork work);
void ctorch_distributed_work_free(CTorchWork work);
// The first failure, which is the group's end: texts live as long as the group, NULL while it is well.
bool ctorch_distributed_group_has_failed(CTorchGroup group);
const char *ctorch_distributed_failure_call(CTorchGroup group);
const char *ctorch_distributed_failure_message(CTorchGroup group);
double ctorch_distributed_failure_elapsed_seconds(CTorchGroup group);
bool ctorch_distributed_failure_is_store_lost(CTorchGroup group);  // it must not be asked again
const char *ctorch_distributed_failure_call_of(CTorchGroup group, int32_t rank);  // NULL: all ranks called the same

#ifdef __cplusplus
}
#endif
#endif
