// Process groups: collectives that a worker thread carries out in the order of the calls, each after an exchange of what
// the ranks call.
#define USE_C10D_GLOO 1
#include "distributed.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

namespace ctorch {

using BackendPointer = c10::intrusive_ptr<c10d::Backend>;

// The point in time until which a call waits for the other ranks.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds timeout) : end(std::chrono::steady_clock::now() + timeout) {}

  // At least a millisecond: c10d takes zero for no limit.
  std::chrono::milliseconds left() const {
    using std::chrono::milliseconds;
    return std::max(milliseconds(1), std::chrono::ceil<milliseconds>(end - std::chrono::steady_clock::now()));
  }

 private:
  const std::chrono::steady_clock::time_point end;
};

// Moves the data of a call and waits until it is there. A collective of the backend has the backend's own timeout; what
// consists of several messages shares the deadline.
using Operation = std::function<void(c10d::Backend &, const Deadline &)>;

// What every rank sends before its data: a hash of the whole call, then the call in words as far as it fits.
constexpr size_t headerBytes = 256;
constexpr size_t headerTextBytes = headerBytes - sizeof(uint64_t);

// The first failure of a group, which is its end.
struct Failure {
  std::string call;
  std::string message;
  double elapsedSeconds = 0;
  std::vector<std::string> calls;  // what each rank called, if they differ; else empty
};

// How far one collective has come; shared by the thread that waits for it and the one that carries it out.
class Progress {
 public:
  void finish(bool success) {
    std::lock_guard<std::mutex> lock(mutex);
    result = success;
    changed.notify_all();
  }

  bool wait() {
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return result.has_value(); });
    return *result;
  }

  bool isFinished() {
    std::lock_guard<std::mutex> lock(mutex);
    return result.has_value();
  }

 private:
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<bool> result;
};

using ProgressPointer = std::shared_ptr<Progress>;

// One process's end of a group. Gloo aborts the process when ranks bring buffers of different sizes, and gives wrong
// numbers when they bring different calls of one size; so the data of a call starts only when all ranks have made it.
class Group {
 public:
  Group(StorePointer store, BackendPointer backend, int32_t rank, int32_t size, std::chrono::milliseconds timeout)
      : store(std::move(store)), backend(std::move(backend)), rank(rank), size(size), timeout(timeout) {
    worker = std::thread([this] { run(); });
  }

  // Carries out what is queued first: the other ranks wait for it. The backend's timeout bounds every call.
  ~Group() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      isStopping = true;
    }
    changed.notify_all();
    worker.join();
  }

  Group(const Group &) = delete;
  Group &operator=(const Group &) = delete;

  // With no elements to move, the ranks only meet.
  ProgressPointer start(const char *call, int64_t numElements, Operation operation) {
    auto progress = std::make_shared<Progress>();
    {
      std::lock_guard<std::mutex> lock(mutex);
      queue.push_back({call, numElements == 0 ? nullptr : std::move(operation), progress});
    }
    changed.notify_all();
    return progress;
  }

  std::shared_ptr<const Failure> currentFailure() {
    std::lock_guard<std::mutex> lock(mutex);
    return failure;
  }

 private:
  struct Task {
    std::string call;
    Operation operation;
    ProgressPointer progress;
  };

  void run() {
    c10::AutoGradMode noGrad(false);
    for (;;) {
      Task task;
      {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return isStopping || !queue.empty(); });
        if (queue.empty()) return;
        task = std::move(queue.front());
        queue.pop_front();
      }
      task.progress->finish(!currentFailure() && succeeds(task));
    }
  }

  bool succeeds(const Task &task) {
    const auto begin = std::chrono::steady_clock::now();
    Failure found{task.call, "", 0, {}};
    try {
      found.calls = exchange(task.call);
      if (found.calls.empty()) {
        if (task.operation) task.operation(*backend, Deadline(timeout));
        return true;
      }
      found.message = "the ranks called different collectives";
    } catch (...) {
      found.message = currentMessage();
    }
    found.elapsedSeconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    end(std::move(found));
    return false;
  }

  // Tells all ranks what this one calls. Returns what each called if they differ, else nothing. Also a barrier.
  std::vector<std::string> exchange(const std::string &call) {
    uint64_t hash = 14695981039346656037ull;  // FNV-1a, the same on every machine
    for (const unsigned char byte : call) hash = (hash ^ byte) * 1099511628211ull;
    at::Tensor mine = at::zeros({static_cast<int64_t>(headerBytes)}, at::kByte);
    at::Tensor all = at::zeros({size * static_cast<int64_t>(headerBytes)}, at::kByte);
    auto *bytes = mine.mutable_data_ptr<uint8_t>();
    std::memcpy(bytes, &hash, sizeof hash);
    std::memcpy(bytes + sizeof hash, call.data(), std::min(call.size(), headerTextBytes));
    backend->_allgather_base(all, mine)->wait();
    const auto *received = all.const_data_ptr<uint8_t>();
    bool agree = true;
    std::vector<std::string> calls;
    for (int32_t peer = 0; peer < size; peer++) {
      const uint8_t *header = received + static_cast<size_t>(peer) * headerBytes;
      agree = agree && std::memcmp(header, bytes, sizeof hash) == 0;
      const auto *text = reinterpret_cast<const char *>(header + sizeof hash);
      calls.emplace_back(text, strnlen(text, headerTextBytes));
    }
    return agree ? std::vector<std::string>() : calls;
  }

  // Leaves a note in the store, then closes the connections: whoever waits for this rank fails at once and finds it.
  void end(Failure found) {
    const std::string note = found.call + "\n" + found.message;
    try {
      store->set("failed/" + std::to_string(rank), std::vector<uint8_t>(note.begin(), note.end()));
    } catch (...) {
      // The store's process is gone too. The failure itself is what counts; its readers find out on their own.
    }
    backend.reset();
    std::lock_guard<std::mutex> lock(mutex);
    failure = std::make_shared<const Failure>(std::move(found));
  }

  const StorePointer store;
  BackendPointer backend;  // used by the worker only
  const int32_t rank;
  const int32_t size;
  const std::chrono::milliseconds timeout;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Task> queue;
  std::shared_ptr<const Failure> failure;
  bool isStopping = false;
  std::thread worker;
};

static Group &group(CTorchGroup handle) { return *reinterpret_cast<Group *>(handle); }
static Progress &progress(CTorchWork handle) { return **reinterpret_cast<ProgressPointer *>(handle); }

static CTorchWork makeWorkHandle(ProgressPointer value) {
  return reinterpret_cast<CTorchWork>(new ProgressPointer(std::move(value)));
}

// The tensor's memory as bytes, so that data moves alike for every dtype.
static at::Tensor bytesOf(CTorchTensor handle) { return tensor(handle).detach().view({-1}).view(at::kByte); }

static c10d::ReduceOp reduceOp(int32_t code) {
  constexpr c10d::ReduceOp::RedOpType types[] = {c10d::ReduceOp::SUM, c10d::ReduceOp::AVG, c10d::ReduceOp::MAX};
  return c10d::ReduceOp(types[code]);
}

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

}  // namespace ctorch

using namespace ctorch;

extern "C" {

int32_t ctorch_distributed_gloo(CTorchStore base, int32_t rank, int32_t size, const char *address,
                                double timeoutSeconds, CTorchGroup *out) {
  CTORCH_TRY(using c10d::ProcessGroupGloo; const PipeSignalBlock block; const auto timeout = milliseconds(timeoutSeconds);
             auto options = address ? ProcessGroupGloo::Options::create(timeout)
                                    : ProcessGroupGloo::Options::create_default(timeout);
             if (address) options->devices.push_back(ProcessGroupGloo::createDeviceForHostname(address));
             options->threads = 1;
             auto connections = c10::make_intrusive<c10d::PrefixStore>(std::string("gloo"), store(base));
             BackendPointer backend = c10::make_intrusive<ProcessGroupGloo>(connections, rank, size, options);
             *out = reinterpret_cast<CTorchGroup>(new Group(store(base), std::move(backend), rank, size, timeout)));
}

void ctorch_distributed_group_free(CTorchGroup handle) { delete reinterpret_cast<Group *>(handle); }

int32_t ctorch_distributed_all_reduce(CTorchGroup handle, const char *call, CTorchTensor target, int32_t reduction,
                                      CTorchWork *out) {
  CTORCH_TRY(at::Tensor data = tensor(target).detach(); c10d::AllreduceOptions options;
             options.reduceOp = reduceOp(reduction);
             const Operation move = [=](c10d::Backend &backend, const Deadline &) {
               std::vector<at::Tensor> tensors{data};
               backend.allreduce(tensors, options)->wait();
             };
             *out = makeWorkHandle(group(handle).start(call, data.numel(), move)));
}

int32_t ctorch_distributed_broadcast(CTorchGroup handle, const char *call, CTorchTensor target, int32_t root,
                                     CTorchWork *out) {
  CTORCH_TRY(at::Tensor data = bytesOf(target); c10d::BroadcastOptions options; options.rootRank = root;
             const Operation move = [=](c10d::Backend &backend, const Deadline &) {
               std::vector<at::Tensor> tensors{data};
               backend.broadcast(tensors, options)->wait();
             };
             *out = makeWorkHandle(group(handle).start(call, data.numel(), move)));
}

int32_t ctorch_distributed_all_gather(CTorchGroup handle, const char *call, CTorchTensor input, CTorchTensor output,
                                      CTorchWork *out) {
  CTORCH_TRY(at::Tensor part = bytesOf(input); at::Tensor whole = bytesOf(output);
             const Operation move = [=](c10d::Backend &backend, const Deadline &deadline) {
               gatherInRing(backend, whole, part, deadline);
             };
             *out = makeWorkHandle(group(handle).start(call, part.numel(), move)));
}

int32_t ctorch_distributed_reduce_scatter(CTorchGroup handle, const char *call, CTorchTensor input,
                                          CTorchTensor output, int32_t reduction, CTorchWork *out) {
  CTORCH_TRY(at::Tensor whole = tensor(input).detach().view({-1}); at::Tensor part = tensor(output).detach().view({-1});
             c10d::ReduceScatterOptions options; options.reduceOp = reduceOp(reduction);
             const Operation move = [=](c10d::Backend &backend, const Deadline &) mutable {
               backend._reduce_scatter_base(part, whole, options)->wait();
             };
             *out = makeWorkHandle(group(handle).start(call, part.numel(), move)));
}

int32_t ctorch_distributed_barrier(CTorchGroup handle, const char *call, CTorchWork *out) {
  CTORCH_TRY(*out = makeWorkHandle(group(handle).start(call, 0, nullptr)));
}

bool ctorch_distributed_work_wait(CTorchWork handle) { return progress(handle).wait(); }

bool ctorch_distributed_work_is_finished(CTorchWork handle) { return progress(handle).isFinished(); }

void ctorch_distributed_work_free(CTorchWork handle) { delete reinterpret_cast<ProgressPointer *>(handle); }

bool ctorch_distributed_group_has_failed(CTorchGroup handle) { return group(handle).currentFailure() != nullptr; }

const char *ctorch_distributed_failure_call(CTorchGroup handle) {
  const auto failure = group(handle).currentFailure();
  return failure ? failure->call.c_str() : nullptr;
}

const char *ctorch_distributed_failure_message(CTorchGroup handle) {
  const auto failure = group(handle).currentFailure();
  return failure ? failure->message.c_str() : nullptr;
}

double ctorch_distributed_failure_elapsed_seconds(CTorchGroup handle) {
  const auto failure = group(handle).currentFailure();
  return failure ? failure->elapsedSeconds : 0;
}

const char *ctorch_distributed_failure_call_of(CTorchGroup handle, int32_t rank) {
  const auto failure = group(handle).currentFailure();
  const auto index = static_cast<size_t>(rank);
  return failure && index < failure->calls.size() ? failure->calls[index].c_str() : nullptr;
}

}
