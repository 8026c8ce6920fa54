"""SmolLM2's mean loss on ordinary text equals transformers' (+ bitsandbytes), in float32 and in NF4 with double quantization.

The GGUF file is dequantized in float32 and quantized from there on both sides. Texts: Python's language reference, as every
Python carries it, and the answers of the bundled held-out rows. Both sides get the same token ids; that the command's own
tokenizer gives these ids is compared first.
"""

import json
import pathlib
import pydoc_data.topics

import torch
from transformers import AutoTokenizer

from harness.command import Check
from harness.models import dequantized_folder, row_loss
from harness.peers import load_base

BOUND = 0.005
NUM_TOKENS_PER_ROW = 256
HELD_OUT = pathlib.Path(__file__).resolve().parents[2] / "Examples" / "wordnet" / "eval.jsonl"


def texts():
    """Name and lines of each text."""
    topics = pydoc_data.topics.topics
    for name in ("compound", "customization", "formatstrings"):
        yield f"Python reference, {name}", topics[name].splitlines()
    rows = map(json.loads, HELD_OUT.read_text().splitlines()[:60])
    yield "held-out answers", [row["messages"][-1]["content"] for row in rows]


def row_chunks(ids):
    """The ids cut into rows of equal length; a rest of one token is dropped, since it has no target."""
    rows = [ids[i : i + NUM_TOKENS_PER_ROW] for i in range(0, min(len(ids), 6 * NUM_TOKENS_PER_ROW), NUM_TOKENS_PER_ROW)]
    return [row for row in rows if len(row) > 1]


def compare_tokens(check, tokenizer, name, lines):
    """Compares the ids of every line that is not blank, as `peft tokenize` and the peer's tokenizer give them."""
    lines = [line for line in lines if line.strip()]
    path = check.work / "lines.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ours = [json.loads(line) for line in check.run("tokenize", "--model", check.model, path).splitlines()]
    theirs = [tokenizer(line).input_ids for line in lines]
    check.equal(f"{name}: token ids of {len(lines)} lines", ours, theirs)


@torch.no_grad()
def peer_loss(model, rows):
    """The mean loss over all target tokens."""
    return sum(row_loss(model, row).item() for row in rows) / sum(len(row) - 1 for row in rows)


def main():
    check = Check("smollm2", __doc__)
    folder = dequantized_folder(check.model, check.dequantized)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    samples = {}
    for name, lines in texts():
        compare_tokens(check, tokenizer, name, lines)
        samples[name] = row_chunks(tokenizer("\n".join(lines)).input_ids)
    for label, quantize, flags in (
        ("float32", False, ["--quantize", "none"]),
        ("NF4, double quantized", True, ["--quantize", "nf4"]),
    ):
        model = load_base(folder, quantize)
        for name, rows in samples.items():
            theirs = peer_loss(model, rows)
            ours, _ = check.score(f"{label}-{name}", check.model, rows, "--dtype", "float32", *flags)
            check.at_most(f"{label}: loss on {name} ({theirs:.4f})", abs(ours["loss"] - theirs), BOUND)
        del model
    check.finish()


if __name__ == "__main__":
    main()
