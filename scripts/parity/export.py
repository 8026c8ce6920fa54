"""Merged, quantized and exported models are those of PEFT, transformers and bitsandbytes; greedy text is that of `peft generate`.

On tiny models: weights of merges in float32 and bfloat16, and of all that LoRA trains, against `merge_and_unload`, tensors of 4-bit folders byte for byte against
`save_pretrained`, both read by transformers. On SmolLM2: the text of an adapter of a few steps, merged, in transformers and here.
"""

import json

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from harness.command import Check, bundled_chats, write_rows
from harness.models import dequantized_folder, peer_logits, random_rows, tiny_model

BOUND = 1e-4
ADAPTER = dict(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
# What LoRA trains besides matrices of linears, and other families: family, its options, LoRA's options.
VARIANTS = {
    "dora": ("llama", {}, dict(use_dora=True, use_rslora=True, target_modules="all-linear")),
    "dora-table": ("llama", {}, dict(use_dora=True, target_modules=["embed_tokens", "lm_head"])),
    "biases": ("llama", dict(attention_bias=True, mlp_bias=True), dict(
        lora_bias=True, bias="all", target_modules=["q_proj", "down_proj"])),
    "modules": ("qwen3", {}, dict(modules_to_save=["norm", "embed_tokens"], target_modules=["o_proj"])),
    "kept-tied": ("llama", dict(tie_word_embeddings=True), dict(
        modules_to_save=["lm_head"], ensure_weight_tying=True, target_modules=["k_proj"])),
    "tokens": ("llama", dict(tie_word_embeddings=True), dict(trainable_token_indices=[90, 3], target_modules=["v_proj"])),
    "conv1d": ("gpt2", dict(n_embd=64, n_layer=2, n_head=4, num_key_value_heads=4, tie_word_embeddings=True), dict(
        fan_in_fan_out=True, bias="lora_only", target_modules=["c_attn", "c_proj", "wpe"])),
    "experts": ("qwen3_moe", dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=24), dict(
        target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"])),
    "named-experts": ("mixtral", dict(num_local_experts=3), dict(target_modules=["w1", "w2", "w3"])),
}
PROMPT = "The glacier"
NEW_TOKENS = 24


def raw_tensors(folder):
    """The bytes of every tensor of a folder of safetensors files, by name."""
    result = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensor = file.get_tensor(name).contiguous()
                result[name] = (str(tensor.dtype), list(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return result


def random_adapter(check, folder, name):
    """An adapter of PEFT's with random matrices, and its merge in float32."""
    torch.manual_seed(5)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(**ADAPTER))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_B" in parameter_name:
                parameter.normal_(0, 0.05)
    adapter = check.work / f"{name}-adapter"
    model.save_pretrained(adapter)
    return adapter, PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter).merge_and_unload()


def merges(check, name, dtype):
    """A merge of a tiny model whose file has this dtype."""
    folder, merged = check.work / f"{name}-base", check.work / f"{name}-merged"
    tiny_model("llama", seed=3).to(dtype).save_pretrained(folder, max_shard_size="40KB")
    adapter, theirs = random_adapter(check, folder, name)
    check.run("merge", "--adapter", adapter, "--model", folder, "--output", merged, "--max-shard-size", "1MB")
    ours = AutoModelForCausalLM.from_pretrained(merged, dtype="auto")
    check.equal(f"{name}: element type", ours.dtype, dtype)
    expected = theirs.to(dtype).state_dict()
    state = ours.state_dict()
    check.equal(f"{name}: names", sorted(state), sorted(expected))
    steps = max(
        float(((state[key].float() - expected[key].float()).abs() / expected[key].float().abs().clamp_min(1e-3)).max())
        for key in expected)
    check.at_most(f"{name}: largest difference, relative", steps, 1e-5 if dtype == torch.float32 else 2**-7)
    rows = random_rows(4, 97, [5, 30])
    _, scored = check.score(f"{name}-merged", merged, rows, "--quantize", "none", "--dtype", "float32", logits=True)
    distance = max(float(abs(a - b).max()) for a, b in zip(scored, peer_logits(ours.float(), rows)))
    check.at_most(f"{name}: logits of the merged folder", distance, BOUND)


def variant(check, name, family, settings, options):
    """A merge of what else LoRA trains, tensor by tensor as PEFT's is saved."""
    base, adapter, ours, theirs = (check.work / f"{name}-{part}" for part in ("base", "adapter", "ours", "theirs"))
    tiny_model(family, seed=4, **settings).save_pretrained(base)
    load = dict(pretrained_model_name_or_path=base, dtype=torch.float32)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(**load), LoraConfig(r=4, lora_alpha=6, task_type="CAUSAL_LM", **options))
    torch.manual_seed(6)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(adapter)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(**load), adapter).merge_and_unload().save_pretrained(theirs)
    check.run("merge", "--adapter", adapter, "--model", base, "--output", ours)
    left, right, before = load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors"), load_file(base / "model.safetensors")
    check.equal(f"{name}: names", sorted(left), sorted(right))
    distance = max(float((left[key] - right[key]).norm() / right[key].norm()) for key in right)
    check.at_most(f"{name}: largest difference, relative", distance, 2e-6)
    check.at_least(f"{name}: tensors that changed", sum(not right[key].equal(before[key]) for key in right), 2)


def quantizes(check, name, quant_type, nested, dtype):
    """A 4-bit folder of a tiny model, tensor by tensor."""
    folder, theirs, ours = check.work / f"{name}-base", check.work / f"{name}-theirs", check.work / f"{name}-ours"
    # Few blocks of numbers of few bits, so that the mean of the constants is the same in any order of summation.
    tiny_model("llama", seed=9).to(torch.bfloat16).to(dtype).save_pretrained(folder)
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=quant_type, bnb_4bit_use_double_quant=nested, bnb_4bit_compute_dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=config, device_map={"": "cpu"})
    model.save_pretrained(theirs)
    check.run(
        "quantize", "--model", folder, "--output", ours, "--quant-type", quant_type,
        "--double-quant" if nested else "--no-double-quant")
    left, right = raw_tensors(ours), raw_tensors(theirs)
    check.equal(f"{name}: names", sorted(left), sorted(right))
    check.equal(f"{name}: tensors that differ", [key for key in right if left.get(key) != right[key]], [])
    mine, peers = (json.loads((path / "config.json").read_text()) for path in (ours, theirs))
    check.equal(f"{name}: quantization_config", mine["quantization_config"], peers["quantization_config"])
    rows = random_rows(4, 97, [5, 30])
    loaded = AutoModelForCausalLM.from_pretrained(ours, dtype=dtype, device_map={"": "cpu"})
    check.equal(f"{name}: class of a linear in transformers", type(loaded.model.layers[0].mlp.up_proj).__name__, "Linear4bit")
    flags = ["--dtype", "float32"]
    _, a = check.score(f"{name}-ours", ours, rows, *flags, logits=True)
    _, b = check.score(f"{name}-theirs", theirs, rows, *flags, logits=True)
    check.equal(f"{name}: logits of both folders", [x.tobytes() for x in a], [x.tobytes() for x in b])


@torch.no_grad()
def greedy(model, tokenizer):
    """The peer's most likely continuation of the prompt."""
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    out = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1)
    return tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)


def texts(check, name):
    """SmolLM2 with an adapter of a few steps: the same text with the adapter, merged, and merged in transformers."""
    base = dequantized_folder(check.model, check.dequantized)
    adapter, merged = check.work / "smollm2-adapter", check.work / "smollm2-merged"
    rows = write_rows(check.work / "rows.jsonl", [{"messages": chat} for chat in bundled_chats("train")[:32]])
    check.run(
        "train", "--model", base, "--data", rows, "--output-dir", adapter, "--quantize", "none", "--max-steps", 8,
        "--learning-rate", 1e-3, "--lr-scheduler-type", "constant", "--max-length", 128, "--truncation-mode", "keep_start")
    flags = ["--quantize", "none", "--dtype", "float32", "--prompt", PROMPT, "--max-new-tokens", NEW_TOKENS, "--json"]
    plain = json.loads(check.run("generate", "--model", base, *flags))["text"]
    ours = json.loads(check.run("generate", "--model", base, "--adapter", adapter, *flags))["text"]
    check.equal(f"{name}: the adapter changes the text", ours != plain, True)
    check.run("merge", "--adapter", adapter, "--output", merged)
    check.equal(f"{name}: text of the merged folder here", json.loads(check.run("generate", "--model", merged, *flags))["text"], ours)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    check.equal(f"{name}: text of the merged folder in transformers", greedy(model, AutoTokenizer.from_pretrained(merged)), ours)


def main():
    check = Check("export", __doc__)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        check.attempt(str(dtype).split(".")[1], merges, dtype)
    for name, (family, settings, options) in VARIANTS.items():
        check.attempt(name, variant, family, settings, options)
    for quant_type, nested, dtype in (
        ("nf4", True, torch.bfloat16), ("nf4", False, torch.float32), ("fp4", True, torch.float16), ("fp4", False, torch.bfloat16)):
        name = f"{quant_type}{'-double' if nested else ''}-{str(dtype).split('.')[1]}"
        check.attempt(name, quantizes, quant_type, nested, dtype)
    check.attempt("smollm2", texts)
    check.finish()


if __name__ == "__main__":
    main()
