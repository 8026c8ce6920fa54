"""Ten QLoRA steps in float32 compute equal PEFT + bitsandbytes: same starting adapter, rows and order.

Each loss within 2e-3, the final adapter's A and B matrices each within 1e-2 relative (Frobenius), for LoRA and rsLoRA, on a
tiny random model and on SmolLM2. Micro-batches have rows of different lengths, so a mean of means would be seen.
"""

import math

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from harness.command import Check, read_metrics, write_token_rows
from harness.models import dequantized_folder, random_rows, tiny_llama
from harness.peers import Schedule, load_base, train

LOSS_BOUND, ADAPTER_BOUND, GRAD_NORM_BOUND = 2e-3, 1e-2, 1e-2


def relative_difference(ours, theirs, marker):
    """The Frobenius norm of the difference of all tensors with `marker` in their name, relative to theirs."""
    names = [name for name in theirs if marker in name]
    difference = sum((ours[name].double() - theirs[name].double()).square().sum().item() for name in names)
    return math.sqrt(difference / sum(theirs[name].double().square().sum().item() for name in names))


def compare(check, name, base, folder, rows, schedule, use_rslora):
    """Trains the same adapter on both sides: PEFT on `folder`, the command on `base`."""
    label = "-".join(name.split())
    start, ours_out, theirs_out = (check.work / f"{label}-{part}" for part in ("start", "ours", "theirs"))
    torch.manual_seed(3)
    model = get_peft_model(load_base(folder, quantize=True), LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", use_rslora=use_rslora, task_type="CAUSAL_LM"))
    model.save_pretrained(start)
    theirs = train(model, rows, schedule)
    model.save_pretrained(theirs_out)
    check.run(
        "train", "--model", base, "--data", write_token_rows(check.work / f"{label}.jsonl", rows), "--output-dir", ours_out,
        "--adapter", start, "--quantize", "nf4", "--dtype", "float32", *schedule.flags())

    ours = read_metrics(ours_out)
    check.equal(f"{name}: logged steps", [m["step"] for m in ours], list(range(1, schedule.steps + 1)))
    check.at_most(f"{name}: loss", max(abs(a["loss"] - b["loss"]) for a, b in zip(ours, theirs)), LOSS_BOUND)
    check.at_most(
        f"{name}: learning rate",
        max(abs(a["learning_rate"] - b["learning_rate"]) for a, b in zip(ours, theirs)), 1e-9)
    check.at_most(
        f"{name}: gradient norm, relative",
        max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(ours, theirs)), GRAD_NORM_BOUND)
    check.at_least(
        f"{name}: gradient norms above the clipping norm", max(m["grad_norm"] for m in theirs), schedule.max_grad_norm)
    before, mine, peer = (
        load_file(path / "adapter_model.safetensors") for path in (start, ours_out, theirs_out))
    check.equal(f"{name}: tensors", {k: list(t.shape) for k, t in mine.items()}, {k: list(t.shape) for k, t in peer.items()})
    for marker in ("lora_A", "lora_B"):
        check.at_most(f"{name}: {marker}, relative", relative_difference(mine, peer, marker), ADAPTER_BOUND)
    check.at_least(f"{name}: lora_A has moved by, relative", relative_difference(before, peer, "lora_A"), 1e-3)


def main():
    check = Check("training", __doc__)
    tiny = check.work / "tiny"
    tiny_llama(seed=11, hidden_size=128, intermediate_size=320, num_attention_heads=4, vocab_size=211).save_pretrained(tiny)
    lengths = [17 + (7 * i) % 48 for i in range(Schedule().num_rows)]
    cases = {
        "tiny": (tiny, tiny, 211, Schedule(max_grad_norm=0.25)),
        "SmolLM2": (check.model, dequantized_folder(check.model, check.dequantized), 49152, Schedule(learning_rate=2e-4)),
    }
    for name, (base, folder, vocabulary, schedule) in cases.items():
        rows = random_rows(5, vocabulary, lengths)
        for method, use_rslora in (("LoRA", False), ("rsLoRA", True)):
            check.attempt(f"{name} {method}", compare, base, folder, rows, schedule, use_rslora)
    check.finish()


if __name__ == "__main__":
    main()
