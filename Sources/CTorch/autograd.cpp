// Autograd: gradients, nodes whose backward is a Swift closure, hooks.
#include "internal.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

using namespace ctorch;
using namespace torch::autograd;

namespace {

// Frees the handles that a callback wrote, whatever happens to the tensors.
variable_list takeAll(std::vector<CTorchTensor> &handles) {
  variable_list result(handles.size());
  for (size_t i = 0; i < handles.size(); i++) {
    if (!handles[i]) continue;
    result[i] = tensor(handles[i]);
    ctorch_tensor_free(handles[i]);
  }
  return result;
}

struct SwiftNode final : public Node {
  SwiftNode(std::shared_ptr<Context> context, CTorchPullback pullback, const char *label)
      : context(std::move(context)), pullback(pullback), label(label) {}

  std::string name() const override { return label; }

  // Frees the Swift closure, and what it saved, as soon as backward is over (unless the graph is retained).
  void release_variables() override { context.reset(); }

  variable_list apply(variable_list &&gradients) override {
    auto keep = context;
    TORCH_CHECK(keep, "backward through ", label, " a second time: what it saved was freed (pass retainGraph: true)");
    std::vector<CTorchTensor> incoming(gradients.size());
    for (size_t i = 0; i < gradients.size(); i++) {
      incoming[i] = gradients[i].defined() ? reinterpret_cast<CTorchTensor>(&gradients[i]) : nullptr;
    }
    std::vector<CTorchTensor> outgoing(num_outputs(), nullptr);
    const int32_t status = pullback(keep->pointer, incoming.data(), static_cast<int32_t>(incoming.size()),
                                    outgoing.data(), static_cast<int32_t>(outgoing.size()));
    variable_list result = takeAll(outgoing);
    if (status) throwCallbackError();
    return result;
  }

  std::shared_ptr<Context> context;
  const CTorchPullback pullback;
  const std::string label;
};

struct AccumulateHook final : public PostAccumulateGradHook {
  AccumulateHook(std::shared_ptr<Context> context, CTorchAccumulateHook hook)
      : context(std::move(context)), hook(hook) {}

  void operator()(const Variable &variable) override {
    at::Tensor parameter = variable;
    if (hook(context->pointer, reinterpret_cast<CTorchTensor>(&parameter))) throwCallbackError();
  }

  const std::shared_ptr<Context> context;
  const CTorchAccumulateHook hook;
};

// Takes the gradient hooks of leaves away and gives them back: libtorch would run them on every part of a gradient
// that a pullback computes, and again when the whole arrives.
class HooksAside {
 public:
  explicit HooksAside(const variable_list &tensors) {
    for (const auto &tensor : tensors) {
      if (!tensor.is_leaf() || !tensor.requires_grad()) continue;
      leaves.push_back(tensor);
      hooks.emplace_back().swap(impl::hooks(tensor));
    }
  }
  ~HooksAside() {
    for (size_t i = leaves.size(); i-- > 0;) hooks[i].swap(impl::hooks(leaves[i]));
  }
  HooksAside(const HooksAside &) = delete;
  HooksAside &operator=(const HooksAside &) = delete;

 private:
  variable_list leaves;
  std::vector<std::vector<std::unique_ptr<FunctionPreHook>>> hooks;
};

// Runs all nodes on the caller's thread: those of a device too, whose closures belong to the task that owns the tensors.
class OnThisThread {
 public:
  OnThisThread() : previous(state().get_multithreading_enabled()) { state().set_multithreading_enabled(false); }
  ~OnThisThread() { state().set_multithreading_enabled(previous); }
  OnThisThread(const OnThisThread &) = delete;
  OnThisThread &operator=(const OnThisThread &) = delete;

 private:
  static c10::AutogradState &state() { return c10::AutogradState::get_tls_state(); }
  const bool previous;
};

void attach(const std::shared_ptr<Context> &owner, const char *name, const variable_list &inputs,
            const variable_list &outputs, CTorchPullback pullback) {
  const bool needed = c10::GradMode::is_enabled() && std::any_of(inputs.begin(), inputs.end(), [](const auto &input) {
                        return input.defined() && input.requires_grad();
                      });
  if (!needed) return;
  auto concrete = c10::make_intrusive<SwiftNode>(owner, pullback, name);
  concrete->set_next_edges(collect_next_edges(inputs));
  c10::intrusive_ptr<Node> node = concrete;
  for (const auto &output : outputs) {
    TORCH_CHECK(!output.requires_grad(), "an output of ", name, " already requires grad");
    create_gradient_edge(const_cast<at::Tensor &>(output), node);
  }
}

}  // namespace

extern "C" {

bool ctorch_autograd_is_enabled(void) { return c10::GradMode::is_enabled(); }

bool ctorch_autograd_set_enabled(bool enabled) {
  const bool previous = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(enabled);
  return previous;
}

bool ctorch_autograd_requires_grad(CTorchTensor value) { return tensor(value).requires_grad(); }

bool ctorch_autograd_has_graph(CTorchTensor value) { return tensor(value).grad_fn() != nullptr; }

int32_t ctorch_autograd_set_requires_grad(CTorchTensor value, bool requiresGrad) {
  CTORCH_TRY(tensor(value).requires_grad_(requiresGrad));
}

int32_t ctorch_autograd_detach(CTorchTensor value, CTorchTensor *out) { CTORCH_MAKE(tensor(value).detach()); }

int32_t ctorch_autograd_get_grad(CTorchTensor value, CTorchTensor *out) {
  CTORCH_TRY(*out = makeHandleOrNull(tensor(value).grad()));
}

int32_t ctorch_autograd_set_grad(CTorchTensor value, CTorchTensor gradient) {
  CTORCH_TRY(tensor(value).mutable_grad() = tensorOrUndefined(gradient));
}

int32_t ctorch_autograd_backward(const CTorchTensor *outputs, const CTorchTensor *gradients, int32_t count,
                                 bool retain) {
  CTORCH_TRY(const OnThisThread here;
             backward(list(outputs, count), list(gradients, count), retain, /*create_graph=*/false));
}

int32_t ctorch_autograd_gradients(const CTorchTensor *outputs, const CTorchTensor *gradients, int32_t numOutputs,
                                  const CTorchTensor *inputs, int32_t numInputs, bool retain, bool runHooks,
                                  CTorchTensor *result) {
  CTORCH_TRY(const OnThisThread here;
             const variable_list leaves = list(inputs, numInputs);
             const HooksAside aside(runHooks ? variable_list() : leaves);
             auto values = grad(list(outputs, numOutputs), leaves, list(gradients, numOutputs), retain,
                                /*create_graph=*/false, /*allow_unused=*/true);
             for (int32_t i = 0; i < numInputs; i++) result[i] = makeHandleOrNull(std::move(values[i])));
}

int32_t ctorch_autograd_node(const char *name, const CTorchTensor *inputs, int32_t numInputs,
                             const CTorchTensor *outputs, int32_t numOutputs, CTorchPullback pullback,
                             CTorchRelease release, void *context) {
  auto owner = std::make_shared<Context>(context, release);
  CTORCH_TRY(attach(owner, name, list(inputs, numInputs), list(outputs, numOutputs), pullback));
}

int32_t ctorch_autograd_add_hook(CTorchTensor value, CTorchGradHook hook, CTorchRelease release, void *context,
                                 uint32_t *position) {
  auto owner = std::make_shared<Context>(context, release);
  CTORCH_TRY(*position = tensor(value).register_hook([owner, hook](const at::Tensor &gradient) -> at::Tensor {
    at::Tensor incoming = gradient;
    std::vector<CTorchTensor> replacement{nullptr};
    const int32_t status = hook(owner->pointer, reinterpret_cast<CTorchTensor>(&incoming), replacement.data());
    at::Tensor result = takeAll(replacement)[0];
    if (status) throwCallbackError();
    return result;
  }));
}

int32_t ctorch_autograd_remove_hook(CTorchTensor value, uint32_t position) {
  CTORCH_TRY(tensor(value).remove_hook(position));
}

int32_t ctorch_autograd_set_accumulate_hook(CTorchTensor value, CTorchAccumulateHook hook, CTorchRelease release,
                                            void *context) {
  auto owner = std::make_shared<Context>(context, release);
  CTORCH_TRY(impl::set_post_acc_grad_hooks(tensor(value), std::make_unique<AccumulateHook>(owner, hook)));
}

}
