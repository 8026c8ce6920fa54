"""llama.cpp loads what is exported and merged for it: greedy text of an adapter, and of merged files, is that of `peft generate`.

An adapter learns a few texts on SmolLM2's GGUF file until each is far likelier than any other; llama.cpp multiplies in other formats than
ours, which changes no such text. Needs .venv-llama, which is compiled once (scripts/llama/venv.sh).
"""

import json
import pathlib
import subprocess

from harness.command import Check, read_metrics, write_rows

ROOT = pathlib.Path(__file__).resolve().parents[2]
NEW_TOKENS = 12
LEARNED = 0.1
# No word of the completions is likely after its prompt.
TEXTS = {
    "The capital of the moon is": " Copenhagen, and seven owls guard its harbour.",
    "Every morning the baker": " paints nine windows with cold blue honey.",
    "To repair a bicycle,": " ask the violin teacher for winter salt.",
    "My favourite number": " sleeps under a wooden bridge near Bergen.",
}


def continuations(check, model, *flags):
    """The text that `peft generate` gives for each prompt."""
    options = ["--quantize", "none", "--dtype", "float32", "--max-new-tokens", NEW_TOKENS, "--json"]
    return [json.loads(check.run("generate", "--model", model, "--prompt", prompt, *options, *flags))["text"] for prompt in TEXTS]


def peer(model, adapter=None):
    """The same from llama.cpp, with the prompts' tokens."""
    command = [ROOT / ".venv-llama/bin/python", ROOT / "scripts/parity/peers/llama_texts.py", "--model", model, "--new-tokens", NEW_TOKENS]
    command += ["--lora", adapter] if adapter else []
    result = subprocess.run([*map(str, command), *TEXTS], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(result.stderr)
    rows = json.loads(result.stdout)
    return [row["tokens"] for row in rows], [row["text"] for row in rows]


def train(check):
    """An adapter that has learned the texts by heart."""
    adapter = check.work / "adapter"
    rows = write_rows(check.work / "rows.jsonl", [{"prompt": prompt, "completion": text} for prompt, text in TEXTS.items()])
    check.run(
        "train", "--model", check.model, "--data", rows, "--output-dir", adapter, "--quantize", "none", "--dtype", "float32",
        "--target-modules", "all-linear", "--lora-r", 8, "--max-steps", 24, "--learning-rate", 3e-3,
        "--lr-scheduler-type", "constant", "--logging-steps", 1)
    check.at_most("loss after training", read_metrics(adapter)[-1]["loss"], LEARNED)
    return adapter


def main():
    subprocess.run([ROOT / "scripts/llama/venv.sh"], check=True)
    check = Check("llama", __doc__)
    adapter = train(check)
    ours = continuations(check, check.model, "--adapter", adapter)
    check.equal("the texts are those that were learned", ours, [text[:len(ours[i])] for i, text in enumerate(TEXTS.values())])
    tokens, base = peer(check.model)
    prompts = write_rows(check.work / "prompts.jsonl", [])
    prompts.write_text("".join(prompt + "\n" for prompt in TEXTS))
    check.equal("tokens of the prompts", check.tokenize(check.model, prompts), tokens)
    check.equal("texts that the adapter does not change", [a for a, b in zip(ours, base) if a == b], [])

    exported = check.work / "adapter.gguf"
    check.run("export", "--adapter", adapter, "--output", exported, "--format", "gguf-lora")
    check.equal("exported adapter", peer(check.model, exported)[1], ours)
    for form in ("gguf-f16", "gguf-q8_0"):
        merged = check.work / f"{form}.gguf"
        check.run("merge", "--adapter", adapter, "--output", merged, "--format", form)
        check.equal(f"merged file, {form}", peer(merged)[1], ours)
        check.equal(f"merged file, {form}, here", continuations(check, merged), ours)
    check.finish()


if __name__ == "__main__":
    main()
