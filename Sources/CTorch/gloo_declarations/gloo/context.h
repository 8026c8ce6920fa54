// Declarations of the few gloo types that libtorch's ProcessGroupGloo.hpp names. The wheel has that header but not gloo's
// own, and the types are only pointed at: nothing here is laid out or instantiated, the definitions live in libtorch_cpu.
#pragma once

#include <gloo/transport/device.h>

#include <chrono>
#include <memory>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
