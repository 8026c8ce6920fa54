"""Adapters go both ways with PEFT, for every option of LoRA and for families with linears of other names.

Equal logits, the same tensors, nothing missing or unexpected.
"""

import json
import warnings

import numpy
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from harness.command import Check, write_rows
from harness.models import peer_logits, random_rows, tiny_model

BOUND = 1e-4
BASE = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])

# name: options in PEFT's names
CASES = {
    "list": BASE,
    "list of one path": BASE | dict(target_modules=["layers.1.mlp.down_proj"]),
    "regex": BASE | dict(target_modules=r".*\.(self_attn\.o_proj|mlp\.(up|gate)_proj)"),
    "all-linear": BASE | dict(target_modules="all-linear"),
    "all-linear, excluded list": BASE | dict(target_modules="all-linear", exclude_modules=["k_proj", "down_proj"]),
    "all-linear, excluded regex": BASE | dict(target_modules="all-linear", exclude_modules=r".*layers\.[02]\.self_attn.*"),
    "layers to transform": BASE | dict(layers_to_transform=[0, 3]),
    "rank pattern": BASE | dict(rank_pattern={"v_proj": 7, "layers.2.self_attn.q_proj": 1}),
    "alpha pattern": BASE | dict(alpha_pattern={"q_proj": 3, r"layers\.[13]\.self_attn\.v_proj": 20}),
    "rank and alpha pattern, rsLoRA": BASE | dict(
        rank_pattern={"v_proj": 9}, alpha_pattern={"v_proj": 5}, use_rslora=True),
    "rsLoRA": BASE | dict(use_rslora=True),
    "dropout": BASE | dict(lora_dropout=0.3),
    "output head": BASE | dict(target_modules=["q_proj", "lm_head"]),
    "embedding": BASE | dict(target_modules=["q_proj", "embed_tokens"]),
    "DoRA": BASE | dict(use_dora=True),
    "bias of the update": BASE | dict(lora_bias=True),
    "modules to save": BASE | dict(modules_to_save=["norm", "lm_head"]),
    "rows of tokens": BASE | dict(trainable_token_indices=[1, 5, 9]),
    "orthogonal start": BASE | dict(init_lora_weights="orthogonal"),
    "PiSSA": BASE | dict(init_lora_weights="pissa"),
    "PiSSA, rsLoRA and a rank pattern": BASE | dict(
        init_lora_weights="pissa", use_rslora=True, rank_pattern={"v_proj": 7}),
    "OLoRA": BASE | dict(init_lora_weights="olora", target_modules=["k_proj", "down_proj"]),
}
EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=48, mlp_only_layers=[2], norm_topk_prob=True)
# Families whose linears are fused, stored transposed, or called otherwise; each with all of them adapted.
FAMILIES = {
    "gemma2": dict(head_dim=32, sliding_window=20, query_pre_attn_scalar=32),
    "gpt2": dict(num_key_value_heads=4),
    "gpt_neox": dict(num_key_value_heads=4),
    "phi3": dict(),
    "qwen2": dict(),
    "mixtral": dict(num_local_experts=5),
    "qwen3_moe": EXPERTS,
}
# Adapters of experts by the names of their tensors, and by the names that their linears had in transformers 4.
EXPERT_CASES = {
    "parameters of experts": BASE | dict(
        target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        rank_pattern={"layers.1.mlp.experts.down_proj": 2}),
    "one parameter, router and linears": BASE | dict(target_parameters=["experts.down_proj", "gate.weight"]),
    "modules of experts": BASE | dict(target_modules=["gate_proj", "up_proj", "down_proj", "o_proj"], use_rslora=True),
}
CONFIG_KEYS = {"r": "lora_r"}


def distance(ours, theirs):
    """The largest difference of two lists of logits."""
    return max(float(numpy.abs(a - b).max()) for a, b in zip(ours, theirs))


def theirs_loads_here(check, name, label, folder, options, rows, plain):
    """An adapter that PEFT made, both matrices random, scored by PEFT and here."""
    adapter = check.work / f"{label}-theirs"
    torch.manual_seed(7)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(0, 0.05)
    model.save_pretrained(adapter)
    theirs = peer_logits(model, rows)
    _, ours = check.score(
        f"{label}-theirs", folder, rows, "--adapter", adapter, "--quantize", "none", "--dtype", "float32", logits=True)
    check.at_least(f"{name}: PEFT's adapter changes the logits by", distance(theirs, plain), 0.01)
    check.at_most(f"{name}: PEFT's adapter, logits here", distance(ours, theirs), BOUND)


def ours_loads_there(check, name, label, folder, options, rows, plain):
    """An adapter of a run of two steps here, scored here and by PEFT; the file holds what PEFT's model trains, no more, no less.

    (PEFT would store the frozen weight of an adapted output head, too, which it reads from the base model as well.)
    """
    adapter = check.work / f"{label}-ours"
    config = {CONFIG_KEYS.get(key, key): value for key, value in options.items()} | dict(
        model=str(folder), data=str(write_rows(check.work / "train.jsonl", rows)), output_dir=str(adapter),
        quantize="none", dtype="float32", max_steps=2, learning_rate=0.01, lr_scheduler_type="constant",
        per_device_train_batch_size=2, logging_steps=1)
    path = check.work / f"{label}.json"
    path.write_text(json.dumps(config))
    check.run("train", "--config", path)
    _, ours = check.score(
        f"{label}-ours", folder, rows, "--adapter", adapter, "--quantize", "none", "--dtype", "float32", logits=True)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base, adapter).eval()
    complaints = [str(warning.message) for warning in caught if "keys" in str(warning.message)]
    if model.peft_config["default"].target_parameters:
        # PEFT applies patterns to parameters, too, but looks only among modules for what they match; shapes and logits tell.
        complaints = [text for text in complaints if "did not match any targeted module" not in text]
    check.equal(f"{name}: PEFT's complaints about keys of our adapter", complaints, [])
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    expected = {key: list(tensor.shape) for key, tensor in state.items()}
    written = {key: list(tensor.shape) for key, tensor in load_file(adapter / "adapter_model.safetensors").items()}
    check.equal(f"{name}: tensors of our adapter", written, expected)
    check.at_least(f"{name}: our adapter changes the logits by", distance(ours, plain), 0.01)
    check.at_most(f"{name}: our adapter, logits in PEFT", distance(peer_logits(model, rows), ours), BOUND)


def both_ways(check, family, cases, **settings):
    """Compares the adapters of all cases on a model of a family."""
    folder = check.work / family
    base = tiny_model(family, seed=23, num_hidden_layers=4, **settings)
    base.save_pretrained(folder)
    rows = random_rows(29, base.config.vocab_size, [9, 24, 40, 61])
    plain = peer_logits(base, rows)
    for name, options in cases.items():
        label = "".join(c if c.isalnum() else "-" for c in name)
        for compare in (theirs_loads_here, ours_loads_there):
            check.attempt(name, compare, label, folder, options, rows, plain)


def main():
    check = Check("adapters", __doc__)
    both_ways(check, "llama", CASES)
    for family, settings in FAMILIES.items():
        both_ways(check, family, {f"{family}, all-linear": BASE | dict(target_modules="all-linear")}, **settings)
    both_ways(check, "qwen3_moe", EXPERT_CASES, **EXPERTS)
    both_ways(check, "qwen2", {
        "qwen2, all biases": BASE | dict(bias="all"),
        "qwen2, biases of adapted layers": BASE | dict(bias="lora_only"),
    })
    check.finish()


if __name__ == "__main__":
    main()
