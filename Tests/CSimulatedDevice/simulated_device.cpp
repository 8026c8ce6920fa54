// The simulated device: allocator, device guard, hooks, and operations that run on the CPU on copies of their operands.
#include "simulated_device.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

namespace {

constexpr auto deviceType = c10::DeviceType::PrivateUse1;
const c10::Device device(deviceType, 0);

std::atomic<int64_t> liveBytes{0};
std::atomic<int64_t> peakBytes{0};
std::atomic<int64_t> totalBytes{int64_t(1) << 30};
std::atomic<int64_t> pinnedBytes{0};
std::atomic<int64_t> copiesToDevice{0};
std::atomic<int64_t> copiesToHost{0};

// MARK: memory

// An address with this bit belongs to no process on x86-64 and arm64.
constexpr uintptr_t deviceBit = uintptr_t(1) << 55;

void *flipped(const void *address) {
  return address ? reinterpret_cast<void *>(reinterpret_cast<uintptr_t>(address) ^ deviceBit) : nullptr;
}

struct Block {
  void *memory;
  int64_t size;
  std::atomic<int64_t> *count;
};

Block *makeBlock(size_t size, std::atomic<int64_t> &count) {
  auto *block = new Block{c10::alloc_cpu(size), static_cast<int64_t>(size), &count};
  // What is not written is NaN in every float dtype, and no valid index.
  if (size > 0) std::memset(block->memory, 0xFF, size);
  count += block->size;
  if (liveBytes > peakBytes) peakBytes = liveBytes.load();
  return block;
}

void freeBlock(void *context) {
  auto *block = static_cast<Block *>(context);
  *block->count -= block->size;
  c10::free_cpu(block->memory);
  delete block;
}

class DeviceAllocator final : public c10::DeviceAllocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    TORCH_CHECK_WITH(OutOfMemoryError, liveBytes + static_cast<int64_t>(size) <= totalBytes, "simulated out of memory: ",
                     size, " bytes beside ", liveBytes.load(), " of ", totalBytes.load());
    auto *block = makeBlock(size, liveBytes);
    return {flipped(block->memory), block, &freeBlock, device};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *target, const void *source, size_t size) const override {
    std::memcpy(flipped(target), flipped(source), size);
  }

  bool initialized() override { return true; }
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr &, c10::Stream) override {}
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override { return {}; }
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex) override { return {totalBytes - liveBytes, totalBytes}; }
};

DeviceAllocator deviceAllocator;

std::mutex pinnedMutex;
std::set<const void *> pinned;

void freePinned(void *context) {
  {
    const std::lock_guard<std::mutex> lock(pinnedMutex);
    pinned.erase(static_cast<Block *>(context)->memory);
  }
  freeBlock(context);
}

// Page-locked memory is host memory as far as the host can tell; a device knows it by its address.
class PinnedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    auto *block = makeBlock(size, pinnedBytes);
    const std::lock_guard<std::mutex> lock(pinnedMutex);
    pinned.insert(block->memory);
    return {block->memory, block, &freePinned, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void *target, const void *source, size_t size) const override { std::memcpy(target, source, size); }
};

PinnedAllocator pinnedAllocator;

// MARK: guard and hooks

// One device whose only stream runs everything at once.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<deviceType> {
  c10::Device exchangeDevice(c10::Device) const override { return device; }
  c10::Device getDevice() const override { return device; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
  void record(void **, const c10::Stream &, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void *, const c10::Stream &) const override {}
  bool queryEvent(void *) const override { return true; }

 private:
  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, device); }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::Allocator *getPinnedMemoryAllocator() const override { return &pinnedAllocator; }
  bool isPinnedPtr(const void *data) const override {
    const std::lock_guard<std::mutex> lock(pinnedMutex);
    return pinned.count(data) > 0;
  }
};

// MARK: operations

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &deviceAllocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor emptyStrided(at::IntArrayRef sizes, at::IntArrayRef strides, std::optional<at::ScalarType> dtype,
                        std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &deviceAllocator,
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

// The same elements as the host sees them; a tensor of the host is itself.
at::Tensor seenByHost(const at::Tensor &value) {
  if (!value.is_privateuseone()) return value;
  return at::from_blob(flipped(value.const_data_ptr()), value.sizes(), value.strides(), value.options().device(c10::kCPU));
}

at::Tensor copyFrom(const at::Tensor &source, const at::Tensor &target, bool) {
  if (!source.is_privateuseone()) ++copiesToDevice;
  if (!target.is_privateuseone()) ++copiesToHost;
  const at::NoGradGuard noGrad;
  seenByHost(target).copy_(seenByHost(source));
  return target;
}

// An empty tensor that takes an operation's result becomes as large as it.
at::Tensor copyFromAndResize(const at::Tensor &source, const at::Tensor &target) {
  if (source.sizes() != target.sizes()) {
    TORCH_CHECK(target.numel() == 0, "a result of another shape");
    const auto larger = at::empty(source.sizes(), target.options());
    target.unsafeGetTensorImpl()->set_storage_keep_dtype(larger.storage());
    target.unsafeGetTensorImpl()->set_sizes_contiguous(source.sizes());
  }
  return copyFrom(source, target, false);
}

at::Scalar item(const at::Tensor &value) {
  ++copiesToHost;
  return seenByHost(value).item();
}

// As a GPU would: only a number may come from the host.
void requireDevice(const at::Tensor &operand) {
  TORCH_CHECK(!operand.defined() || operand.is_privateuseone() || operand.dim() == 0,
              "Expected all tensors to be on the same device, but found at least two devices, ", device, " and ",
              operand.device());
}

// Copies operands to the host, runs the operation there, copies results and what was changed back.
void onHost(const c10::OperatorHandle &operation, torch::jit::Stack *stack) {
  for (const auto &argument : torch::jit::last(*stack, operation.schema().arguments().size())) {
    if (argument.isTensor()) requireDevice(argument.toTensor());
    if (argument.isTensorList()) {
      for (const at::Tensor &operand : argument.toTensorList()) requireDevice(operand);
    }
  }
  at::native::cpu_fallback(operation, stack);
}

void registerAll() {
  c10::register_privateuse1_backend("simulated");
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  static const Guard guard;
  static const c10::impl::DeviceGuardImplRegistrar registrar(deviceType, &guard);
  c10::SetAllocator(deviceType, &deviceAllocator);

  static torch::Library everything(torch::Library::IMPL, "_", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  everything.fallback(torch::CppFunction::makeFromBoxedFunction<&onHost>());
  static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", emptyStrided);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", static_cast<at::Tensor (*)(const at::Tensor &, at::IntArrayRef)>(at::native::view));
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("_copy_from", copyFrom);
  library.impl("_copy_from_and_resize", copyFromAndResize);
  library.impl("_local_scalar_dense", item);
}

}  // namespace

extern "C" {

void simulated_device_register(void) {
  static std::once_flag isRegistered;
  std::call_once(isRegistered, registerAll);
}

int64_t simulated_device_live_bytes(void) { return liveBytes; }
int64_t simulated_device_peak_bytes(void) { return peakBytes; }
void simulated_device_reset_peak(void) { peakBytes = liveBytes.load(); }
void simulated_device_set_memory(int64_t bytes) { totalBytes = bytes; }
int64_t simulated_device_pinned_bytes(void) { return pinnedBytes; }
int64_t simulated_device_copies_to_device(void) { return copiesToDevice; }
int64_t simulated_device_copies_to_host(void) { return copiesToHost; }

}
