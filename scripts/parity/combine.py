"""Adapters that `peft combine` makes of several compute in PEFT what PEFT's own `add_weighted_adapter` makes of them.

Types without chance, on a model with adapters of different ranks, scalings and layers; equal logits in PEFT and here.
"""

import copy

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from harness.command import Check
from harness.models import peer_logits, random_rows, tiny_model

BOUND = 1e-4
ADAPTERS = {
    "a": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "b": dict(r=4, lora_alpha=2, target_modules=["q_proj", "down_proj"]),
    "c": dict(r=7, lora_alpha=5, target_modules=["q_proj", "embed_tokens"], rank_pattern={"q_proj": 3}),
}
# name: (adapters with weights, options as PEFT has them)
CASES = {
    "cat": (dict(a=0.7, b=-0.4, c=1.3), dict(combination_type="cat")),
    "svd": (dict(a=0.7, b=-0.4, c=1.3), dict(combination_type="svd", svd_rank=5)),
    "linear": (dict(a=0.7, b=-0.4), dict(combination_type="linear")),
    "ties": (dict(a=0.7, b=0.4), dict(combination_type="ties", density=0.5)),
    "ties, frequency": (dict(a=0.7, b=0.4), dict(combination_type="ties", density=0.5, majority_sign_method="frequency")),
    "ties, svd": (dict(a=0.7, b=0.4, c=0.3), dict(combination_type="ties_svd", density=0.5)),
    "magnitude_prune": (dict(a=0.7, b=0.4), dict(combination_type="magnitude_prune", density=0.3)),
    "magnitude_prune, svd": (dict(a=0.7, c=-0.4), dict(combination_type="magnitude_prune_svd", density=0.3)),
}


def write_adapters(check, base):
    """Random adapters of PEFT, one folder each."""
    folders = {}
    for seed, (name, options) in enumerate(ADAPTERS.items()):
        model = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", **options))
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.normal_(0, 0.1)
        folders[name] = check.work / f"adapter-{name}"
        model.save_pretrained(folders[name], save_embedding_layers=False)
    return folders


def compare(check, name, folder, folders, rows, plain):
    """One case: PEFT's combination, ours in PEFT, and ours here."""
    weights, options = CASES[name]
    label = "".join(c if c.isalnum() else "-" for c in name)
    output = check.work / f"{label}-combined"
    flags = [word for adapter, weight in weights.items() for word in ("--adapter", f"{folders[adapter]}:{weight}")]
    for key, value in options.items():
        flags += ["--type" if key == "combination_type" else "--" + key.replace("_", "-"), str(value)]
    check.run("combine", *flags, "--output", output)

    names = list(weights)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folders[names[0]], adapter_name=names[0])
    for adapter in names[1:]:
        model.load_adapter(folders[adapter], adapter_name=adapter)
    model.add_weighted_adapter(names, list(weights.values()), "combined", **options)
    model.set_adapter("combined")
    theirs = peer_logits(model.eval(), rows)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    in_peft = peer_logits(PeftModel.from_pretrained(base, output).eval(), rows)
    _, ours = check.score(
        f"{label}-score", folder, rows, "--adapter", output, "--quantize", "none", "--dtype", "float32", logits=True)

    def distance(left, right):
        return max(float(abs(a - b).max()) for a, b in zip(left, right))

    check.at_least(f"{name}: the combined adapter changes the logits by", distance(theirs, plain), 0.01)
    check.at_most(f"{name}: our adapter, logits in PEFT", distance(in_peft, theirs), BOUND)
    check.at_most(f"{name}: our adapter, logits here", distance(ours, theirs), BOUND)


def main():
    check = Check("combine", __doc__)
    base = tiny_model("llama", seed=23, num_hidden_layers=2)
    folder = check.work / "llama"
    base.save_pretrained(folder)
    rows = random_rows(29, base.config.vocab_size, [9, 24, 40])
    plain = peer_logits(base, rows)
    folders = write_adapters(check, base)
    for name in CASES:
        check.attempt(name, compare, folder, folders, rows, plain)
    check.finish()


if __name__ == "__main__":
    main()
