// Devices: what there is, its memory, and copies between devices. Through libtorch's device-independent interfaces, so that
// nothing but the build of libtorch decides which devices work.
#include "internal.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

using namespace ctorch;

namespace {

struct Copy {
  c10::Device device;
  std::unique_ptr<c10::Event> done;
};

}  // namespace

extern "C" {

int32_t ctorch_device_count(int32_t type) {
  try {
    const auto deviceType = static_cast<at::DeviceType>(type);
    if (!c10::impl::hasDeviceGuardImpl(deviceType)) return 0;
    return c10::impl::VirtualGuardImpl(deviceType).deviceCount();
  } catch (...) {
    return 0;
  }
}

bool ctorch_device_is_cuda_build(void) { return at::globalContext().hasCUDA() || c10::impl::hasDeviceGuardImpl(at::kCUDA); }

const char *ctorch_device_name(int32_t type) {
  static thread_local std::string name;
  name = c10::DeviceTypeName(static_cast<at::DeviceType>(type), /*lower_case=*/true);
  return name.c_str();
}

int32_t ctorch_device_memory(CTorchDevice device, int64_t *freeBytes, int64_t *totalBytes) {
  CTORCH_TRY({
    const auto place = deviceOf(device);
    at::globalContext().lazyInitDevice(place.type());
    const auto [available, total] = c10::getDeviceAllocator(place.type())->getMemoryInfo(place.index());
    *freeBytes = static_cast<int64_t>(available);
    *totalBytes = static_cast<int64_t>(total);
  });
}

int32_t ctorch_device_copy(CTorchTensor value, CTorchDevice device, CTorchTensor *out) {
  CTORCH_TRY({
    const auto &source = tensor(value);
    const auto target = deviceOf(device);
    const bool waits = target.is_cpu() || !source.is_cpu() || !source.is_pinned();
    *out = makeHandle(isDryRun ? source : source.to(target, /*non_blocking=*/!waits));
  });
}

int32_t ctorch_device_copy_aside(CTorchTensor target, CTorchTensor source, CTorchCopy *out) {
  CTORCH_TRY({
    const auto device = tensor(target).device();
    const c10::impl::VirtualGuardImpl guardOf(device.type());
    c10::Event ready(device.type());
    ready.record(guardOf.getStream(device));
    const c10::StreamGuard aside(guardOf.getStreamFromGlobalPool(device, /*isHighPriority=*/false));
    ready.block(aside.current_stream());
    const at::NoGradGuard noGrad;
    tensor(target).copy_(tensor(source), /*non_blocking=*/true);
    auto done = std::make_unique<c10::Event>(device.type());
    done->record(aside.current_stream());
    *out = reinterpret_cast<CTorchCopy>(new Copy{device, std::move(done)});
  });
}

int32_t ctorch_device_copy_wait(CTorchCopy handle) {
  CTORCH_TRY({
    const auto &copy = *reinterpret_cast<Copy *>(handle);
    copy.done->block(c10::impl::VirtualGuardImpl(copy.device.type()).getStream(copy.device));
  });
}

void ctorch_device_copy_free(CTorchCopy handle) { delete reinterpret_cast<Copy *>(handle); }

int32_t ctorch_device_synchronize(CTorchDevice device) {
  CTORCH_TRY({
    const auto place = deviceOf(device);
    if (!place.is_cpu()) c10::impl::VirtualGuardImpl(place.type()).synchronizeDevice(place.index());
  });
}

}  // extern "C"
