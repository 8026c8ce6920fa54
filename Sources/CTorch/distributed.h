// Shared by the shim's distributed files: store handles, durations, the message of an exception.
#pragma once

#include "internal.h"

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cmath>

namespace ctorch {

using StorePointer = c10::intrusive_ptr<c10d::Store>;

inline const StorePointer &store(CTorchStore handle) { return *reinterpret_cast<StorePointer *>(handle); }

inline std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(seconds * 1000)));
}

// The message of the exception that is being handled.
inline std::string currentMessage() {
  try {
    throw;
  } catch (const c10::Error &error) {
    return error.what_without_backtrace();
  } catch (const std::exception &error) {
    return error.what();
  } catch (...) {
    return "unknown C++ exception";
  }
}

}  // namespace ctorch
