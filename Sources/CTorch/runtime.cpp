// Errors, versions, threads and the counters that the leak tests read.
#include "internal.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/ivalue.h>
#include <ATen/cpu/Utils.h>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>

#ifdef __linux__
#include <csignal>
#include <sys/prctl.h>
#endif

namespace ctorch {

static thread_local std::string lastError;
static thread_local std::string callbackError;
static thread_local void *traceRecorder = nullptr;
std::atomic<int64_t> liveTensors{0};
std::atomic<int64_t> liveContexts{0};

void setLastError(std::string message) { lastError = std::move(message); }

void throwCallbackError() {
  std::string message = std::move(callbackError);
  callbackError.clear();
  TORCH_CHECK(false, message.empty() ? "a Swift callback failed without a message" : message);
}

}  // namespace ctorch

using namespace ctorch;

extern "C" {

const char *ctorch_last_error(void) { return lastError.c_str(); }

void ctorch_set_callback_error(const char *message) { callbackError = message; }

const char *ctorch_runtime_header_version(void) { return TORCH_VERSION; }

void ctorch_runtime_end_with_parent(void) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
}

const char *ctorch_runtime_configuration(void) {
  static const std::string text = at::show_config();
  return text.c_str();
}

int32_t ctorch_runtime_set_num_threads(int32_t count) { CTORCH_TRY(at::set_num_threads(count)); }

int32_t ctorch_runtime_num_threads(void) { return at::get_num_threads(); }

void ctorch_runtime_parallel(
    int32_t count, void (*body)(void *data, int32_t thread), void *data) {
  // libtorch's operations run on the threads of its OpenMP library; others beside them would wait for the same cores. The
  // compiler's own OpenMP would be a second library, so its threads are asked for by the functions that gcc's code calls.
  using Region = void (*)(void (*)(void *), void *, unsigned, unsigned);
  using Number = int (*)(void);
  static const auto parallel = reinterpret_cast<Region>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  static const auto index = reinterpret_cast<Number>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
  static const auto size = reinterpret_cast<Number>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
  if (count == 1 || !parallel || !index || !size) {
    for (int32_t thread = 0; thread < count; thread++) body(data, thread);
    return;
  }
  struct Call {
    int32_t count;
    void (*body)(void *, int32_t);
    void *data;
  } call{count, body, data};
  parallel(
      [](void *context) {
        const Call &call = *static_cast<Call *>(context);
        // A team may be smaller than what was asked for.
        for (int32_t thread = index(); thread < call.count; thread += size()) call.body(call.data, thread);
      },
      &call, unsigned(count), 0);
}

bool ctorch_runtime_has_bfloat16_products(void) {
#if defined(__x86_64__)
  static const bool result = [] {
    // The user's choice of our kernels (PEFTLayers, InstructionSet) is one of products too.
    const char *choice = std::getenv("PEFT_INSTRUCTION_SET");
    if (choice && *choice && std::strcmp(choice, "avx512bf16") != 0) return false;
    const auto capabilities = at::cpu::get_cpu_capabilities();
    const auto found = capabilities.find("avx512_bf16");
    return found != capabilities.end() && found->second.toBool();
  }();
  return result;
#else
  return true;
#endif
}

void *ctorch_trace_recorder(void) { return traceRecorder; }

void ctorch_trace_set_recorder(void *recorder) { traceRecorder = recorder; }

int64_t ctorch_runtime_live_tensors(void) { return liveTensors.load(); }

int64_t ctorch_runtime_live_contexts(void) { return liveContexts.load(); }

}
