"""Ten QLoRA steps in float32 compute equal PEFT + bitsandbytes: same starting adapter, rows and order.

Each loss within 2e-3, the final adapter's A and B matrices each within 1e-2 relative (Frobenius): LoRA and rsLoRA on SmolLM2
with rows of text, and more schedules and storages on a tiny random model. Micro-batches have rows of different lengths, so a
mean of means would be seen.
"""

import dataclasses
import math

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoTokenizer

from harness.command import Check, bundled_chats, read_metrics, write_rows
from harness.models import dequantized_folder, random_rows, tiny_llama
from harness.peers import FP4, NF4, Schedule, load_base, train

LOSS_BOUND, ADAPTER_BOUND, GRAD_NORM_BOUND = 2e-3, 1e-2, 1e-2


def relative_difference(ours, theirs, marker):
    """The Frobenius norm of the difference of all tensors with `marker` in their name, relative to theirs."""
    names = [name for name in theirs if marker in name]
    difference = sum((ours[name].double() - theirs[name].double()).square().sum().item() for name in names)
    return math.sqrt(difference / sum(theirs[name].double().square().sum().item() for name in names))


def compare(check, name, base, folder, rows, schedule, quantize=NF4, use_rslora=False, flags=("--quantize", "nf4")):
    """Trains the same adapter on both sides: PEFT on `folder`, the command on `base` with these flags."""
    label = "-".join(name.replace(",", "").split())
    start, ours_out, theirs_out = (check.work / f"{label}-{part}" for part in ("start", "ours", "theirs"))
    torch.manual_seed(3)
    model = get_peft_model(load_base(folder, quantize), LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", use_rslora=use_rslora, task_type="CAUSAL_LM"))
    model.save_pretrained(start)
    theirs = train(model, rows, schedule)
    model.save_pretrained(theirs_out)
    check.run(
        "train", "--model", base, "--data", write_rows(check.work / f"{label}.jsonl", rows), "--output-dir", ours_out,
        "--adapter", start, "--dtype", "float32", *flags, *schedule.flags())

    ours = read_metrics(ours_out)
    check.equal(f"{name}: logged steps", [m["step"] for m in ours], list(range(1, schedule.steps + 1)))
    check.at_most(f"{name}: loss", max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs)), LOSS_BOUND)
    check.at_most(
        f"{name}: learning rate",
        max(abs(a["learning_rate"] - b["learning_rate"]) for a, b in zip(ours, theirs)), 1e-9)
    check.at_most(
        f"{name}: gradient norm, relative",
        max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(ours, theirs)), GRAD_NORM_BOUND)
    if schedule.max_grad_norm > 0:
        check.at_least(
            f"{name}: gradient norms, above the clipping norm", max(m["grad_norm"] for m in theirs), schedule.max_grad_norm)
    before, mine, peer = (
        load_file(path / "adapter_model.safetensors") for path in (start, ours_out, theirs_out))
    check.equal(f"{name}: tensors", {k: list(t.shape) for k, t in mine.items()}, {k: list(t.shape) for k, t in peer.items()})
    for marker in ("lora_A", "lora_B"):
        check.at_most(f"{name}: {marker}, relative", relative_difference(mine, peer, marker), ADAPTER_BOUND)
    check.at_least(f"{name}: lora_A has moved by, relative", relative_difference(before, peer, "lora_A"), 1e-3)


def text_rows(folder, number):
    """Rows of text, some 30 to 50 tokens each: bundled training examples, tokenized by the peer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["\n".join(message["content"] for message in chat) for chat in bundled_chats("train")[:number]]
    return [tokenizer(text).input_ids for text in texts]


def main():
    check = Check("training", __doc__)
    tiny = check.work / "tiny"
    tiny_llama(seed=11, hidden_size=128, intermediate_size=320, num_attention_heads=4, vocab_size=211).save_pretrained(tiny)
    clipped = Schedule(max_grad_norm=0.25)
    rows = random_rows(5, 211, [17 + (7 * i) % 48 for i in range(clipped.num_rows)])
    for name, schedule, options in (
        ("LoRA", clipped, {}),
        ("rsLoRA", clipped, dict(use_rslora=True)),
        ("cosine, recomputed activations", dataclasses.replace(clipped, scheduler="cosine"),
         dict(flags=("--quantize", "nf4", "--gradient-checkpointing"))),
        ("constant, not clipped, FP4, constants not quantized",
         dataclasses.replace(clipped, scheduler="constant_with_warmup", max_grad_norm=0),
         dict(quantize=FP4, flags=("--quantize", "fp4", "--no-double-quant"))),
        ("base in float32", dataclasses.replace(clipped, warmup=0), dict(quantize=None, flags=("--quantize", "none"))),
    ):
        check.attempt(f"tiny, {name}", compare, tiny, tiny, rows, schedule, **options)
    folder = dequantized_folder(check.model, check.dequantized)
    schedule = Schedule(learning_rate=2e-4)
    rows = text_rows(folder, schedule.num_rows)
    for method, use_rslora in (("LoRA", False), ("rsLoRA", True)):
        check.attempt(f"SmolLM2, {method}", compare, check.model, folder, rows, schedule, use_rslora=use_rslora)
    check.finish()


if __name__ == "__main__":
    main()
