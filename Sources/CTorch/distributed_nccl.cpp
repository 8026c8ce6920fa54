// Collectives between GPUs. Compiled to nothing but errors where libtorch is no CUDA build (Package.swift).
#include "distributed_transport.h"

#ifdef CTORCH_HAS_NCCL
#define USE_C10D_NCCL 1
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>
#include <thread>
#endif

namespace ctorch {

#ifdef CTORCH_HAS_NCCL

// A collective of NCCL is queued on the GPU. The thread that carries calls out waits for its end on the host, so that a
// call means the same as over Gloo, and a rank that does not come is an error here and not a kernel that spins for ever.
class NCCLTransport final : public Transport {
 public:
  explicit NCCLTransport(BackendPointer backend) : backend(std::move(backend)) {}

  ~NCCLTransport() override { close(); }

  // The data is ready when the GPU has done what the caller has queued until now. The collective waits for that alone, on
  // a stream of its own, and not for what the caller queues while the ranks exchange their calls.
  Operation prepared(const at::Tensor &tensor, Operation operation) const override {
    TORCH_CHECK(tensor.is_cuda(), "NCCL moves tensors on a GPU, and this one is on ", tensor.device(),
                ": copy it to the GPU, or make a group with the backend gloo");
    const c10::Device device = tensor.device();
    const c10::impl::VirtualGuardImpl gpu(device.type());
    auto ready = std::make_shared<c10::Event>(device.type());
    ready->record(gpu.getStream(device));
    return [device, ready, operation = std::move(operation)](Transport &transport, const Deadline &deadline) {
      const c10::impl::VirtualGuardImpl gpu(device.type());
      const c10::StreamGuard guard(gpu.getStreamFromGlobalPool(device, /*isHighPriority=*/true));
      ready->block(guard.current_stream());
      operation(transport, deadline);
    };
  }

  void allReduce(at::Tensor data, c10d::ReduceOp op, const Deadline &deadline) override {
    std::vector<at::Tensor> tensors{std::move(data)};
    c10d::AllreduceOptions options;
    options.reduceOp = std::move(op);
    finish(backend->allreduce(tensors, options), deadline);
  }

  void broadcast(at::Tensor data, int root, const Deadline &deadline) override {
    std::vector<at::Tensor> tensors{std::move(data)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    finish(backend->broadcast(tensors, options), deadline);
  }

  void allGather(at::Tensor whole, at::Tensor part, const Deadline &deadline) override {
    finish(gatherSingle(*backend, whole, part), deadline);
  }

  void reduceScatter(at::Tensor part, at::Tensor whole, c10d::ReduceOp op, const Deadline &deadline) override {
    c10d::ReduceScatterOptions options;
    options.reduceOp = std::move(op);
    finish(reduceScatterSingle(*backend, part, whole, options), deadline);
  }

  // An end by agreement would wait for ranks that may be gone.
  void close() override {
    if (backend) backend->abort();
    backend.reset();
  }

 private:
  static void finish(const c10::intrusive_ptr<c10d::Work> &work, const Deadline &deadline) {
    while (!work->isCompleted()) {
      TORCH_CHECK(!deadline.isOver(), "Timed out waiting for a collective of NCCL to complete");
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    if (const auto exception = work->exception()) std::rethrow_exception(exception);
    work->wait();
  }

  BackendPointer backend;
};

int32_t numNCCLDevices() { return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).deviceCount(); }

std::unique_ptr<Transport> makeNCCLTransport(const StorePointer &store, int32_t rank, int32_t size,
                                             std::chrono::milliseconds timeout) {
  // c10d's own threads would end the process where we report an error; a setting of the user's stays.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2", /*overwrite=*/0);  // clean up, do not end the process
  setenv("TORCH_NCCL_ENABLE_MONITORING", "0", /*overwrite=*/0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = 2 * timeout;  // ours comes first
  auto connections = c10::make_intrusive<c10d::PrefixStore>(std::string("nccl"), store);
  return std::make_unique<NCCLTransport>(
      c10::make_intrusive<c10d::ProcessGroupNCCL>(connections, rank, size, options));
}

#else

int32_t numNCCLDevices() { return -1; }

std::unique_ptr<Transport> makeNCCLTransport(const StorePointer &, int32_t, int32_t, std::chrono::milliseconds) {
  TORCH_CHECK(false, "this build has no NCCL");
}

#endif

}  // namespace ctorch
