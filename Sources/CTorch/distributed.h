// Shared by the shim's distributed files: store handles, durations, the message of an exception.
#pragma once

#include "internal.h"

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <signal.h>

#include <chrono>
#include <cmath>

namespace ctorch {

using StorePointer = c10::intrusive_ptr<c10d::Store>;

inline const StorePointer &store(CTorchStore handle) { return *reinterpret_cast<StorePointer *>(handle); }

inline std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::ceil(seconds * 1000)));
}

// Blocks SIGPIPE in this thread and in the threads that it starts meanwhile. Gloo writes to connections whose other end
// may be gone; the signal would end the process before the error is seen (Python ignores it, a Swift program does not).
class PipeSignalBlock {
 public:
  PipeSignalBlock() {
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &signals, &previous);
  }
  ~PipeSignalBlock() {
    if (sigismember(&previous, SIGPIPE)) return;
    const timespec noTime{0, 0};
    sigtimedwait(&signals, nullptr, &noTime);  // what came meanwhile
    pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  }
  PipeSignalBlock(const PipeSignalBlock &) = delete;
  PipeSignalBlock &operator=(const PipeSignalBlock &) = delete;

 private:
  sigset_t signals;
  sigset_t previous;
};

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
