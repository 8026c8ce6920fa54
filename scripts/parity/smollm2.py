"""SmolLM2's mean loss on ordinary text equals transformers' (+ bitsandbytes), in float32 and in NF4 with double quantization.

The GGUF file is dequantized in float32 and quantized from there on both sides. Texts: Python's language reference, as every
Python carries it, and the answers of the bundled held-out rows. Both sides get the same token ids; that the command's own
tokenizer gives these ids is compared first. Held-out conversations are scored as texts, special tokens inside, too.
"""

import pydoc_data.topics

import torch
from transformers import AutoTokenizer

from harness.command import Check, bundled_chats
from harness.models import dequantized_folder, row_loss
from harness.peers import NF4, load_base

BOUND = 0.005
NUM_TOKENS_PER_ROW = 256


def texts():
    """Name and lines of each text."""
    topics = pydoc_data.topics.topics
    for name in ("compound", "customization", "formatstrings"):
        yield f"Python reference, {name}", topics[name].splitlines()
    yield "held-out answers", [chat[-1]["content"] for chat in bundled_chats("eval")[:60]]


def row_chunks(ids):
    """The ids cut into rows of equal length; a rest of one token is dropped, since it has no target."""
    rows = [ids[i : i + NUM_TOKENS_PER_ROW] for i in range(0, min(len(ids), 4 * NUM_TOKENS_PER_ROW), NUM_TOKENS_PER_ROW)]
    return [row for row in rows if len(row) > 1]


def compare_tokens(check, tokenizer, name, lines):
    """Compares the ids of every line that is not blank, as `peft tokenize` and the peer's tokenizer give them."""
    lines = [line for line in lines if line.strip()]
    path = check.work / "lines.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    theirs = [tokenizer(line).input_ids for line in lines]
    check.equal_each(f"{name}: tokens of lines", lines, check.tokenize(check.model, path), theirs)


@torch.no_grad()
def peer_loss(model, rows):
    """The mean loss over all target tokens."""
    return sum(row_loss(model, row).item() for row in rows) / sum(len(row) - 1 for row in rows)


def samples(check, tokenizer):
    """Rows for the command and their token ids, by name."""
    made = {}
    for name, lines in texts():
        compare_tokens(check, tokenizer, name, lines)
        rows = row_chunks(tokenizer("\n".join(lines)).input_ids)
        made[name] = (rows, rows)
    whole = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in bundled_chats("eval")[60:75]]
    made["held-out conversations as texts"] = ([{"text": text} for text in whole], [tokenizer(text).input_ids for text in whole])
    return made


def main():
    check = Check("smollm2", __doc__)
    folder = dequantized_folder(check.model, check.dequantized)
    compared = samples(check, AutoTokenizer.from_pretrained(folder))
    for label, quantize, flags in (
        ("float32", None, ["--quantize", "none"]),
        ("NF4, double quantized", NF4, ["--quantize", "nf4"]),
    ):
        model = load_base(folder, quantize)
        for name, (rows, ids) in compared.items():
            theirs = peer_loss(model, ids)
            ours, _ = check.score(f"{label}-{name}", check.model, rows, "--dtype", "float32", *flags)
            check.at_most(f"{label}: loss on {name} ({theirs:.4f})", abs(ours["loss"] - theirs), BOUND)
        del model
    check.finish()


if __name__ == "__main__":
    main()
