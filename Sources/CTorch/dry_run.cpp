// Dry runs: tensors without elements (libtorch's meta device) under an allocator that counts what they would take.
#include "internal.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/Allocator.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <mutex>

namespace ctorch {

thread_local bool isDryRun = false;

namespace {

constexpr int32_t numParts = CTORCH_DRY_RUN_PARTS;

using Bytes = std::array<int64_t, numParts>;

// One thread builds, runs and frees the tensors of a dry run: backward on the meta device stays on the caller's.
struct Count {
  int32_t run = 0;  // what outlives its run must not be taken off the next one
  int32_t part = 0;
  int64_t total = 0;
  int64_t peakTotal = 0;
  Bytes live{};
  Bytes peak{};

  void add(int32_t to, int64_t size) {
    live[to] += size;
    total += size;
    if (total <= peakTotal) return;
    peakTotal = total;
    peak = live;
  }
};

thread_local Count count;

struct Block {
  int32_t run;
  int32_t part;
  int64_t size;
};

void release(void *context) {
  auto *block = static_cast<Block *>(context);
  if (block->run == count.run) count.add(block->part, -block->size);
  delete block;
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    if (!isDryRun || size == 0) return {nullptr, c10::Device(c10::kMeta)};
    // The CPU allocator aligns so.
    const auto rounded = (static_cast<int64_t>(size) + 63) / 64 * 64;
    count.add(count.part, rounded);
    return {nullptr, new Block{count.run, count.part, rounded}, &release, c10::Device(c10::kMeta)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void *, const void *, size_t) const override {}
};

// MARK: operations whose form for the meta device is in PyTorch's Python part only

at::Tensor indexSelect(const at::Tensor &value, int64_t axis, const at::Tensor &indices) {
  auto shape = value.sizes().vec();
  shape.at(static_cast<size_t>(c10::maybe_wrap_dim(axis, value.dim()))) = indices.numel();
  return at::empty(shape, value.options());
}

// The output, and mean and inverse deviation of each row, which libtorch keeps in the input's element type.
std::tuple<at::Tensor, at::Tensor, at::Tensor> layerNorm(const at::Tensor &input, at::IntArrayRef shape,
                                                         const std::optional<at::Tensor> &,
                                                         const std::optional<at::Tensor> &, double) {
  auto rows = input.sizes().vec();
  for (size_t i = 0; i < shape.size(); i++) rows.at(rows.size() - 1 - i) = 1;
  return {at::empty(input.sizes(), input.options()), at::empty(rows, input.options()),
          at::empty(rows, input.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> layerNormBackward(
    const at::Tensor &, const at::Tensor &input, at::IntArrayRef shape, const at::Tensor &, const at::Tensor &,
    const std::optional<at::Tensor> &, const std::optional<at::Tensor> &, std::array<bool, 3> wanted) {
  const auto made = [&](bool isWanted, at::IntArrayRef sizes) {
    return isWanted ? at::empty(sizes, input.options()) : at::Tensor();
  };
  return {made(wanted[0], input.sizes()), made(wanted[1], shape), made(wanted[2], shape)};
}

// [batch, heads, tokens, channels] with the tokens outermost, as the kernel lays its results out.
at::Tensor tokensFirst(const at::Tensor &operand) {
  return at::empty_like(operand.transpose(1, 2), at::MemoryFormat::Contiguous).transpose(1, 2);
}

std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor &query, const at::Tensor &, const at::Tensor &, double,
                                             bool, const std::optional<at::Tensor> &, std::optional<double>) {
  return {tokensFirst(query), at::empty({query.size(0), query.size(1), query.size(2)},
                                        query.options().dtype(at::kFloat))};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> attentionBackward(const at::Tensor &, const at::Tensor &query,
                                                                 const at::Tensor &key, const at::Tensor &value,
                                                                 const at::Tensor &, const at::Tensor &, double, bool,
                                                                 const std::optional<at::Tensor> &,
                                                                 std::optional<double>) {
  return {tokensFirst(query), tokensFirst(key), tokensFirst(value)};
}

}  // namespace

}  // namespace ctorch

TORCH_LIBRARY_IMPL(aten, Meta, library) {
  library.impl("index_select", ctorch::indexSelect);
  library.impl("native_layer_norm", ctorch::layerNorm);
  library.impl("native_layer_norm_backward", ctorch::layerNormBackward);
  library.impl("_scaled_dot_product_flash_attention_for_cpu", ctorch::attention);
  library.impl("_scaled_dot_product_flash_attention_for_cpu_backward", ctorch::attentionBackward);
}

using namespace ctorch;

extern "C" {

void ctorch_dry_run_begin(void) {
  static CountingAllocator allocator;
  static std::once_flag isSet;
  std::call_once(isSet, [] { c10::SetAllocator(c10::kMeta, &allocator, /*priority=*/1); });
  const auto run = count.run + 1;
  count = Count{};
  count.run = run;
  isDryRun = true;
}

void ctorch_dry_run_end(void) { isDryRun = false; }

bool ctorch_dry_run_is_on(void) { return isDryRun; }

int32_t ctorch_dry_run_set_part(int32_t part) { return std::exchange(count.part, part); }

void ctorch_dry_run_peak(int64_t *parts) { std::copy(count.peak.begin(), count.peak.end(), parts); }

}  // extern "C"
