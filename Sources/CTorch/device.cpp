// Devices: what there is, its memory, and copies between devices. Through libtorch's device-independent interfaces, so that
// nothing but the build of libtorch decides which devices work.
#include "internal.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

using namespace ctorch;

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

int32_t ctorch_device_synchronize(CTorchDevice device) {
  CTORCH_TRY({
    const auto place = deviceOf(device);
    if (!place.is_cpu()) c10::impl::VirtualGuardImpl(place.type()).synchronizeDevice(place.index());
  });
}

}  // extern "C"
