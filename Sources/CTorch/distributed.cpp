// Process groups: collectives that a worker thread carries out in the order of the calls, each after an exchange of what
// the ranks call.
#include "distributed_transport.h"

#include <c10/core/GradMode.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

namespace ctorch {

using Operation = Transport::Operation;

// What every rank sends before its data: a hash of the whole call, then the call in words as far as it fits.
constexpr size_t headerBytes = 256;
constexpr size_t headerTextBytes = headerBytes - sizeof(uint64_t);

// The first failure of a group, which is its end.
struct Failure {
  std::string call;
  std::string message;
  double elapsedSeconds = 0;
  std::vector<std::string> calls;  // what each rank called, if they differ; else empty
  bool isStoreLost = false;
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

  // No: it has not finished in time.
  bool wait(std::chrono::seconds limit) {
    std::unique_lock<std::mutex> lock(mutex);
    return changed.wait_for(lock, limit, [&] { return result.has_value(); }) && *result;
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
// numbers when they bring different calls of one size; NCCL hangs. So the data of a call starts only when all ranks have
// made it. They tell each other over Gloo whatever moves the data: it is a few bytes in host memory, an exchange over the
// GPU would wait for what is queued there, and only Gloo notices at once that a rank has gone.
class Group {
 public:
  Group(StorePointer store, BackendPointer gloo, std::unique_ptr<Transport> transport, int32_t rank, int32_t size,
        std::chrono::milliseconds timeout)
      : store(std::move(store)), gloo(std::move(gloo)), transport(std::move(transport)), rank(rank), size(size),
        timeout(timeout) {
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

  // `tensor` is one of those that the operation moves; without elements, the ranks only meet.
  ProgressPointer start(const char *call, const at::Tensor &tensor, Operation operation) {
    operation = transport->prepared(tensor, std::move(operation));
    return meet(call, tensor.numel() == 0 ? nullptr : std::move(operation));
  }

  ProgressPointer meet(const char *call, Operation operation = nullptr) {
    auto progress = std::make_shared<Progress>();
    {
      std::lock_guard<std::mutex> lock(mutex);
      queue.push_back({call, std::move(operation), progress});
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
    Failure found{task.call, "", 0, {}, false};
    try {
      found.calls = exchange(task.call);
      if (found.calls.empty()) {
        if (task.operation) task.operation(*transport, Deadline(timeout));
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
    gatherSingle(*gloo, all, mine)->wait();
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
    found.isStoreLost = !leaveNote(found.call + "\n" + found.message);
    gloo.reset();
    transport->close();
    std::lock_guard<std::mutex> lock(mutex);
    failure = std::make_shared<const Failure>(std::move(found));
  }

  // Whether the store has it. The store may be gone with its process; or, behind a cut cable, it says nothing for a quarter
  // of an hour, and its client knows no timeout: then the thread that asks is left behind, and nobody asks again.
  bool leaveNote(const std::string &note) {
    auto progress = std::make_shared<Progress>();
    std::thread([store = store, key = "failed/" + std::to_string(rank), note, progress] {
      const PipeSignalBlock block;
      try {
        store->set(key, std::vector<uint8_t>(note.begin(), note.end()));
        progress->finish(store->check({key}));
      } catch (...) {
        progress->finish(false);
      }
    }).detach();
    return progress->wait(std::chrono::seconds(5));
  }

  const StorePointer store;
  BackendPointer gloo;  // used by the worker only
  const std::unique_ptr<Transport> transport;
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

}  // namespace ctorch

using namespace ctorch;

extern "C" {

int32_t ctorch_distributed_connect(CTorchStore base, bool usesNCCL, int32_t rank, int32_t size, const char *address,
                                   double timeoutSeconds, CTorchGroup *out) {
  CTORCH_TRY(const auto timeout = milliseconds(timeoutSeconds);
             BackendPointer gloo = connectGloo(store(base), rank, size, address, timeout);
             auto transport = usesNCCL ? makeNCCLTransport(store(base), rank, size, timeout) : makeGlooTransport(gloo);
             *out = reinterpret_cast<CTorchGroup>(
                 new Group(store(base), std::move(gloo), std::move(transport), rank, size, timeout)));
}

int32_t ctorch_distributed_num_nccl_devices(void) {
  try {
    return numNCCLDevices();
  } catch (...) {
    return 0;
  }
}

void ctorch_distributed_group_free(CTorchGroup handle) { delete reinterpret_cast<Group *>(handle); }

int32_t ctorch_distributed_all_reduce(CTorchGroup handle, const char *call, CTorchTensor target, int32_t reduction,
                                      CTorchWork *out) {
  CTORCH_TRY(at::Tensor data = tensor(target).detach(); const auto op = reduceOp(reduction);
             const Operation move = [=](Transport &transport, const Deadline &deadline) {
               transport.allReduce(data, op, deadline);
             };
             *out = makeWorkHandle(group(handle).start(call, data, move)));
}

int32_t ctorch_distributed_broadcast(CTorchGroup handle, const char *call, CTorchTensor target, int32_t root,
                                     CTorchWork *out) {
  CTORCH_TRY(at::Tensor data = bytesOf(target);
             const Operation move = [=](Transport &transport, const Deadline &deadline) {
               transport.broadcast(data, root, deadline);
             };
             *out = makeWorkHandle(group(handle).start(call, data, move)));
}

int32_t ctorch_distributed_all_gather(CTorchGroup handle, const char *call, CTorchTensor input, CTorchTensor output,
                                      CTorchWork *out) {
  CTORCH_TRY(at::Tensor part = bytesOf(input); at::Tensor whole = bytesOf(output);
             const Operation move = [=](Transport &transport, const Deadline &deadline) {
               transport.allGather(whole, part, deadline);
             };
             *out = makeWorkHandle(group(handle).start(call, part, move)));
}

int32_t ctorch_distributed_reduce_scatter(CTorchGroup handle, const char *call, CTorchTensor input,
                                          CTorchTensor output, int32_t reduction, CTorchWork *out) {
  CTORCH_TRY(at::Tensor whole = tensor(input).detach().view({-1}); at::Tensor part = tensor(output).detach().view({-1});
             const auto op = reduceOp(reduction);
             const Operation move = [=](Transport &transport, const Deadline &deadline) {
               transport.reduceScatter(part, whole, op, deadline);
             };
             *out = makeWorkHandle(group(handle).start(call, part, move)));
}

int32_t ctorch_distributed_barrier(CTorchGroup handle, const char *call, CTorchWork *out) {
  CTORCH_TRY(*out = makeWorkHandle(group(handle).meet(call)));
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

bool ctorch_distributed_failure_is_store_lost(CTorchGroup handle) {
  const auto failure = group(handle).currentFailure();
  return failure && failure->isStoreLost;
}

const char *ctorch_distributed_failure_call_of(CTorchGroup handle, int32_t rank) {
  const auto failure = group(handle).currentFailure();
  const auto index = static_cast<size_t>(rank);
  return failure && index < failure->calls.size() ? failure->calls[index].c_str() : nullptr;
}

}
