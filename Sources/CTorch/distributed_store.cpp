// Key-value stores where the processes of a run find each other.
#include "distributed.h"

#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace ctorch {

static thread_local std::vector<uint8_t> lastValue;

static CTorchStore makeStoreHandle(StorePointer value) {
  return reinterpret_cast<CTorchStore>(new StorePointer(std::move(value)));
}

}  // namespace ctorch

using namespace ctorch;

extern "C" {

int32_t ctorch_distributed_tcp_store(const char *host, uint16_t port, bool isServer, double timeoutSeconds,
                                     CTorchStore *out) {
  CTORCH_TRY(const PipeSignalBlock block; c10d::TCPStoreOptions options; options.port = port; options.isServer = isServer;
             options.waitWorkers = false; options.timeout = milliseconds(timeoutSeconds);
             *out = makeStoreHandle(c10::make_intrusive<c10d::TCPStore>(std::string(host), options)));
}

int32_t ctorch_distributed_file_store(const char *path, int32_t numRanks, double timeoutSeconds, CTorchStore *out) {
  CTORCH_TRY(StorePointer value = c10::make_intrusive<c10d::FileStore>(std::string(path), numRanks);
             value->setTimeout(milliseconds(timeoutSeconds)); *out = makeStoreHandle(std::move(value)));
}

int32_t ctorch_distributed_memory_store(CTorchStore *out) {
  CTORCH_TRY(*out = makeStoreHandle(c10::make_intrusive<c10d::HashStore>()));
}

int32_t ctorch_distributed_prefix_store(const char *prefix, CTorchStore base, CTorchStore *out) {
  CTORCH_TRY(*out = makeStoreHandle(c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), store(base))));
}

void ctorch_distributed_store_free(CTorchStore handle) { delete reinterpret_cast<StorePointer *>(handle); }

int32_t ctorch_distributed_store_set(CTorchStore handle, const char *key, const uint8_t *value, size_t count) {
  CTORCH_TRY(store(handle)->set(key, std::vector<uint8_t>(value, value + count)));
}

int32_t ctorch_distributed_store_add(CTorchStore handle, const char *key, int64_t amount, int64_t *out) {
  CTORCH_TRY(*out = store(handle)->add(key, amount));
}

int32_t ctorch_distributed_store_check(CTorchStore handle, const char *key, bool *out) {
  CTORCH_TRY(*out = store(handle)->check({std::string(key)}));
}

int32_t ctorch_distributed_store_get(CTorchStore handle, const char *key, double timeoutSeconds, const uint8_t **out,
                                     size_t *count) {
  CTORCH_TRY(store(handle)->wait({std::string(key)}, milliseconds(timeoutSeconds));
             lastValue = store(handle)->get(key); *out = lastValue.data(); *count = lastValue.size());
}

}
