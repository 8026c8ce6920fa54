// Records of operations: libtorch's profiler (Kineto), and ranges of our own in them.
#include "internal.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <cstdlib>
#include <set>
#include <string>

using namespace ctorch;

namespace {

using torch::profiler::impl::ActivityType;

torch::profiler::impl::ProfilerConfig configuration() {
  return torch::profiler::impl::ProfilerConfig(torch::profiler::impl::ProfilerState::KINETO,
                                               /*report_input_shapes=*/true);
}

}  // namespace

extern "C" {

int32_t ctorch_profile_begin(void) {
  CTORCH_TRY({
    setenv("KINETO_LOG_LEVEL", "6", /*overwrite=*/0);  // else it notes its start and end on standard error
    const std::set<ActivityType> activities{ActivityType::CPU};
    torch::autograd::profiler::prepareProfiler(configuration(), activities);
    torch::autograd::profiler::enableProfiler(configuration(), activities,
                                              {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION,
                                               at::RecordScope::USER_SCOPE});
  });
}

int32_t ctorch_profile_end(const char *path) {
  CTORCH_TRY({
    auto result = torch::autograd::profiler::disableProfiler();
    if (path) result->save(path);
  });
}

bool ctorch_profile_is_on(void) { return at::hasThreadLocalCallbacks(); }

void *ctorch_profile_range_begin(const char *name) {
  auto *range = new at::RecordFunction(at::RecordScope::USER_SCOPE);
  if (range->isActive()) range->before(std::string(name));
  return range;
}

void ctorch_profile_range_end(void *range) { delete static_cast<at::RecordFunction *>(range); }

}  // extern "C"
