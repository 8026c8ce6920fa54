// Collectives between host memories, over TCP.
#define USE_C10D_GLOO 1
#include "distributed_transport.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

namespace ctorch {

// Writes the parts of all ranks into `whole`, in a ring: in step s each rank passes on to the right what it got in step
// s - 1. Gloo's own all-gather goes through a second buffer as large as `whole`; its messages are sent from and received
// in the tensors' own memory. Their tags are apart from those of its collectives, which carry a prefix, and messages of
// one tag between two ranks keep their order.
//
// When a connection breaks amid a message, Gloo tells only those who wait for the messages after it. So an empty message
// follows each part and is waited for first, and what was sent is waited for only when the right neighbour has
// confirmed it: until then it is the left one, in the end, through which the loss of a rank is seen.
static void gatherInRing(c10d::Backend &backend, const at::Tensor &whole, const at::Tensor &part,
                         const Deadline &deadline) {
  const int rank = backend.getRank();
  const int size = backend.getSize();
  const auto place = [&](int owner) { return whole.narrow(0, (owner + size) % size * part.numel(), part.numel()); };
  at::Tensor own = place(rank);
  if (own.const_data_ptr() != part.const_data_ptr()) own.copy_(part);
  if (size == 1) return;

  constexpr int tag = 0;
  const int left = (rank + size - 1) % size;
  const int right = (rank + 1) % size;
  const at::Tensor nothing = whole.narrow(0, 0, 0);
  std::vector<c10::intrusive_ptr<c10d::Work>> sent;
  const auto send = [&](at::Tensor message, int receiver) {
    std::vector<at::Tensor> tensors{std::move(message)};
    sent.push_back(backend.send(tensors, receiver, tag));
  };
  const auto receive = [&](at::Tensor message, int sender) {
    std::vector<at::Tensor> tensors{std::move(message)};
    return backend.recv(tensors, sender, tag);
  };
  for (int step = 0; step < size - 1; step++) {
    const auto message = receive(place(rank - step - 1), left);
    const auto end = receive(nothing, left);
    send(place(rank - step), right);
    send(nothing, right);
    end->wait(deadline.left());
    message->wait(deadline.left());
  }
  send(nothing, left);
  receive(nothing, right)->wait(deadline.left());
  for (const auto &work : sent) work->wait(deadline.left());
}

// What is one collective of the backend has the backend's own timeout.
class GlooTransport final : public Transport {
 public:
  explicit GlooTransport(BackendPointer backend) : backend(std::move(backend)) {}

  Operation prepared(const at::Tensor &tensor, Operation operation) const override {
    TORCH_CHECK(tensor.is_cpu(), "Gloo moves tensors in host memory, and this one is on ", tensor.device(),
                ": copy it to the CPU, or make a group with the backend nccl");
    return operation;
  }

  void allReduce(at::Tensor data, c10d::ReduceOp op, const Deadline &) override {
    std::vector<at::Tensor> tensors{std::move(data)};
    c10d::AllreduceOptions options;
    options.reduceOp = std::move(op);
    backend->allreduce(tensors, options)->wait();
  }

  void broadcast(at::Tensor data, int root, const Deadline &) override {
    std::vector<at::Tensor> tensors{std::move(data)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    backend->broadcast(tensors, options)->wait();
  }

  void allGather(at::Tensor whole, at::Tensor part, const Deadline &deadline) override {
    gatherInRing(*backend, whole, part, deadline);
  }

  void reduceScatter(at::Tensor part, at::Tensor whole, c10d::ReduceOp op, const Deadline &) override {
    c10d::ReduceScatterOptions options;
    options.reduceOp = std::move(op);
    reduceScatterSingle(*backend, part, whole, options)->wait();
  }

  void close() override { backend.reset(); }

 private:
  BackendPointer backend;
};

BackendPointer connectGloo(const StorePointer &store, int32_t rank, int32_t size, const char *address,
                           std::chrono::milliseconds timeout) {
  using c10d::ProcessGroupGloo;
  const PipeSignalBlock block;
  auto options =
      address ? ProcessGroupGloo::Options::create(timeout) : ProcessGroupGloo::Options::create_default(timeout);
  if (address) options->devices.push_back(ProcessGroupGloo::createDeviceForHostname(address));
  options->threads = 1;
  auto connections = c10::make_intrusive<c10d::PrefixStore>(std::string("gloo"), store);
  return c10::make_intrusive<ProcessGroupGloo>(connections, rank, size, options);
}

std::unique_ptr<Transport> makeGlooTransport(BackendPointer gloo) {
  return std::make_unique<GlooTransport>(std::move(gloo));
}

}  // namespace ctorch
