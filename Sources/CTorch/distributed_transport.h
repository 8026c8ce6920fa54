// What moves the data of a group's calls: Gloo between host memories, NCCL between GPUs.
#pragma once

#include "distributed.h"

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <algorithm>
#include <functional>
#include <memory>

namespace ctorch {

using BackendPointer = c10::intrusive_ptr<c10d::Backend>;

// The point in time until which a call waits for the other ranks.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds timeout) : end(std::chrono::steady_clock::now() + timeout) {}

  bool isOver() const { return std::chrono::steady_clock::now() >= end; }

  // At least a millisecond: c10d takes zero for no limit.
  std::chrono::milliseconds left() const {
    using std::chrono::milliseconds;
    return std::max(milliseconds(1), std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now()));
  }

 private:
  const std::chrono::steady_clock::time_point end;
};

// Every call waits until the data is there, and throws if a rank does not come. Tensors are flat and contiguous.
class Transport {
 public:
  using Operation = std::function<void(Transport &, const Deadline &)>;

  virtual ~Transport() = default;

  // Called where a call starts, in the thread of the group's user: throws unless the tensor is where this transport moves
  // data, and returns the operation with whatever must come before it in the thread that carries it out.
  virtual Operation prepared(const at::Tensor &tensor, Operation operation) const = 0;

  virtual void allReduce(at::Tensor data, c10d::ReduceOp op, const Deadline &deadline) = 0;
  virtual void broadcast(at::Tensor data, int root, const Deadline &deadline) = 0;
  virtual void allGather(at::Tensor whole, at::Tensor part, const Deadline &deadline) = 0;
  virtual void reduceScatter(at::Tensor part, at::Tensor whole, c10d::ReduceOp op, const Deadline &deadline) = 0;

  // Closes the connections, so that ranks that wait for this one fail.
  virtual void close() = 0;
};

// libtorch 2.15 has other names for two of c10d's collectives than 2.13.
template <typename Backend>
c10::intrusive_ptr<c10d::Work> gatherSingle(Backend &backend, at::Tensor &whole, at::Tensor &part) {
  if constexpr (requires { backend.all_gather_single(whole, part); }) {
    return backend.all_gather_single(whole, part);
  } else {
    return backend._allgather_base(whole, part);
  }
}

template <typename Backend>
c10::intrusive_ptr<c10d::Work> reduceScatterSingle(Backend &backend, at::Tensor &part, at::Tensor &whole,
                                                   const c10d::ReduceScatterOptions &options) {
  if constexpr (requires { backend.reduce_scatter_single(part, whole, options); }) {
    return backend.reduce_scatter_single(part, whole, options);
  } else {
    return backend._reduce_scatter_base(part, whole, options);
  }
}

// Connects to the other ranks over TCP; `address` NULL: the host's own name.
BackendPointer connectGloo(const StorePointer &store, int32_t rank, int32_t size, const char *address,
                           std::chrono::milliseconds timeout);

std::unique_ptr<Transport> makeGlooTransport(BackendPointer gloo);

// The number of GPUs that NCCL can use, or -1 if this build has no NCCL.
int32_t numNCCLDevices();

// Its communicator forms in the first call. Only where there is a GPU.
std::unique_ptr<Transport> makeNCCLTransport(const StorePointer &store, int32_t rank, int32_t size,
                                             std::chrono::milliseconds timeout);

}  // namespace ctorch
