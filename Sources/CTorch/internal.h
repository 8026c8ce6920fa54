// Shared by the shim's C++ files: handles, errors, callback contexts.
#pragma once

#include "ctorch.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ctorch {

void setLastError(std::string message);
[[noreturn]] void throwCallbackError();

// Whether this thread's new tensors have no elements.
extern thread_local bool isDryRun;

extern std::atomic<int64_t> liveTensors;
extern std::atomic<int64_t> liveContexts;

inline at::Tensor &tensor(CTorchTensor handle) { return *reinterpret_cast<at::Tensor *>(handle); }

inline at::Tensor tensorOrUndefined(CTorchTensor handle) { return handle ? tensor(handle) : at::Tensor(); }

inline CTorchTensor makeHandle(at::Tensor value) {
  auto handle = reinterpret_cast<CTorchTensor>(new at::Tensor(std::move(value)));
  ++liveTensors;
  return handle;
}

inline CTorchTensor makeHandleOrNull(at::Tensor value) {
  return value.defined() ? makeHandle(std::move(value)) : nullptr;
}

inline at::IntArrayRef sizes(const int64_t *values, int32_t count) {
  return at::IntArrayRef(values, static_cast<size_t>(count));
}

inline at::Device deviceOf(CTorchDevice device) {
  const auto type = static_cast<at::DeviceType>(device.type);
  return type == at::kCPU ? at::Device(type) : at::Device(type, static_cast<at::DeviceIndex>(device.index));
}

inline at::TensorOptions options(int32_t dtype, at::Device device = at::kCPU) {
  return at::TensorOptions().dtype(static_cast<at::ScalarType>(dtype)).device(isDryRun ? at::Device(at::kMeta) : device);
}

inline std::vector<at::Tensor> list(const CTorchTensor *handles, int32_t count) {
  std::vector<at::Tensor> result;
  result.reserve(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; i++) result.push_back(handles ? tensorOrUndefined(handles[i]) : at::Tensor());
  return result;
}

// Owns one Swift context; releases it when the last C++ owner goes.
class Context {
 public:
  Context(void *pointer, CTorchRelease release) : pointer(pointer), release(release) { ++liveContexts; }
  ~Context() {
    if (release) release(pointer);
    --liveContexts;
  }
  Context(const Context &) = delete;
  Context &operator=(const Context &) = delete;

  void *const pointer;

 private:
  const CTorchRelease release;
};

}  // namespace ctorch

// Runs the statements; on an exception records its message and returns 1.
#define CTORCH_TRY(...)                                                               \
  try {                                                                               \
    __VA_ARGS__;                                                                      \
    return 0;                                                                         \
  } catch (const c10::Error &error) {                                                 \
    ctorch::setLastError(error.what_without_backtrace());                             \
  } catch (const std::exception &error) {                                             \
    ctorch::setLastError(error.what());                                               \
  } catch (...) {                                                                     \
    ctorch::setLastError("unknown C++ exception");                                    \
  }                                                                                   \
  return 1

// Stores the value of the expression as a new handle.
#define CTORCH_MAKE(expression) CTORCH_TRY(*out = ctorch::makeHandle(expression))
