"""Logits of tiny random models equal transformers', in float32: families, many shapes, layouts and file dtypes."""

import json

import numpy
import torch
from transformers import AutoModelForCausalLM

from harness.command import Check
from harness.models import peer_logits, random_rows, tiny_model

BOUND = 1e-4

# name: (config options, options of the file and the model type)
CASES = {
    "multi-head, untied": (dict(num_key_value_heads=4), {}),
    "multi-head, tied": (dict(num_key_value_heads=4, tie_word_embeddings=True), {}),
    "grouped 9:3, tied": (
        dict(hidden_size=72, num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True), {}),
    "multi-query 5:1, head dim not hidden/heads": (
        dict(hidden_size=50, num_attention_heads=5, num_key_value_heads=1, head_dim=16), {}),
    "head dim 6, odd hidden, odd intermediate": (
        dict(hidden_size=33, intermediate_size=51, num_attention_heads=3, num_key_value_heads=1, head_dim=6), {}),
    "one head, one layer": (dict(num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1), {}),
    "five layers, vocabulary 1031": (dict(num_hidden_layers=5, vocab_size=1031, initializer_range=0.1), {}),
    "rope theta 500000, norm eps 1e-3": (
        dict(rope_parameters={"rope_type": "default", "rope_theta": 500000.0}, rms_norm_eps=1e-3), {}),
    "older config layout": (
        dict(rope_parameters={"rope_type": "default", "rope_theta": 31337.0}), dict(older_config=True)),
    "several shards": (dict(num_hidden_layers=3), dict(shard="40KB")),
    "float16 file": ({}, dict(dtype=torch.float16)),
    "llama 3 scaling": (
        dict(rope_parameters=dict(
            rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64)), {}),
    "mistral, window 50": (dict(sliding_window=50), dict(family="mistral")),
    "qwen 2, window from the second block on": (
        dict(use_sliding_window=True, sliding_window=20, max_window_layers=1), dict(family="qwen2")),
    "qwen 3, head dim 32": (dict(head_dim=32, tie_word_embeddings=True), dict(family="qwen3")),
    "smollm 3": (dict(num_hidden_layers=5), dict(family="smollm3")),
    "granite": (
        dict(embedding_multiplier=2.0, logits_scaling=1.5, residual_multiplier=0.3, attention_multiplier=0.2),
        dict(family="granite")),
    "olmo 2": ({}, dict(family="olmo2")),
    "phi 3, half of each head rotated": (
        dict(rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)),
        dict(family="phi3")),
    "gemma 2, window 40": (
        dict(head_dim=32, sliding_window=40, query_pre_attn_scalar=20, attn_logit_softcapping=5.0,
             final_logit_softcapping=9.0), dict(family="gemma2", attention="eager")),
    "gemma 3, window 40": (
        dict(head_dim=32, sliding_window=40, num_hidden_layers=7, query_pre_attn_scalar=20),
        dict(family="gemma3_text")),
    "gpt-neox": (dict(num_key_value_heads=4), dict(family="gpt_neox")),
    "gpt-2, bfloat16 file": (
        dict(num_key_value_heads=4), dict(family="gpt2", dtype=torch.bfloat16)),
    "bfloat16 file, shards, tied": (dict(tie_word_embeddings=True), dict(dtype=torch.bfloat16, shard="40KB")),
}


def rewrite_in_older_layout(folder):
    """Gives config.json the keys of transformers 4: `rope_theta` and `torch_dtype` at the top level."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2))


def compare(check, name, index, options, file):
    """Writes the model of one case and compares logits and loss of a few rows."""
    folder = check.work / f"model-{index}"
    model = tiny_model(file.get("family", "llama"), seed=index, **options).to(file.get("dtype", torch.float32))
    model.save_pretrained(folder, max_shard_size=file.get("shard", "1GB"))
    if file.get("older_config"):
        rewrite_in_older_layout(folder)
    if "shard" in file:
        check.at_least(f"{name}: files", len(list(folder.glob("*.safetensors"))), 2)
    attention = file.get("attention", "sdpa")
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()
    rows = random_rows(index, peer.config.vocab_size, [2, 3, 17, 64, 65, 129])
    theirs = peer_logits(peer, rows)
    result, ours = check.score(
        f"case-{index}", folder, rows, "--quantize", "none", "--dtype", "float32", logits=True)
    check.equal(f"{name}: shapes", [a.shape for a in ours], [a.shape for a in theirs])
    check.at_least(f"{name}: spread of the logits", float(numpy.std(theirs[3])), 0.1)
    check.at_most(f"{name}: logits", max(float(abs(a - b).max()) for a, b in zip(ours, theirs)), BOUND)
    sums = [
        torch.nn.functional.cross_entropy(torch.tensor(a[:-1]), torch.tensor(row[1:]), reduction="sum").item()
        for a, row in zip(theirs, rows)
    ]
    num_targets = sum(len(row) - 1 for row in rows)
    check.equal(f"{name}: target tokens", result["num_target_tokens"], num_targets)
    check.at_most(f"{name}: loss", abs(result["loss"] - sum(sums) / num_targets), BOUND)


def main():
    check = Check("logits", __doc__)
    for index, (name, (options, file)) in enumerate(CASES.items()):
        check.attempt(name, compare, index, options, file)
    check.finish()


if __name__ == "__main__":
    main()
