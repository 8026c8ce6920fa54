#!/usr/bin/env python3
"""Generation speed of `peft generate` beside llama.cpp, alternating in one run.

llama.cpp, ours, llama.cpp, ours on the same GGUF file with the same number of threads: a prompt of 512 tokens up to its first new token, and
greedy generation of 128 tokens after a short prompt. llama.cpp computes with the file's own blocks, its figures are medians of
several measurements after a run to warm up; ours reads the file into NF4 with double quantization, each figure is one process's first
and only. Writes Benchmarks/Results/<date>-generate-<cpu>.md. Run it by `make bench` on an idle machine: only the ratios of one run count.
"""

import argparse
import dataclasses
import os
import re

from measuring import MODEL, PEFT, ROOT, heading, median_by, run_json, shown, write_result

SHORT_PROMPT = "The history of the city of Rome begins"
PEER_PYTHON = ".venv-llama/bin/python"


@dataclasses.dataclass
class Speeds:
    """What one run gave, in tokens/s."""

    side: str
    prompt: float
    generation: float


def measure_peer(arguments, long_prompt):
    """One run of llama.cpp."""
    command = [
        PEER_PYTHON, "Benchmarks/peer/llama_generate.py", "--model", MODEL, "--threads", arguments.threads,
        "--short-prompt", SHORT_PROMPT, "--long-prompt", long_prompt, "--new-tokens", arguments.new_tokens]
    result, _ = run_json(command)
    require_length(arguments, "llama.cpp", result)
    return Speeds("llama.cpp", result["prompt_tokens_per_second"], result["tokens_per_second"]), [command]


def measure_ours(arguments, long_prompt):
    """One run of the built command for the long prompt, one for the new tokens."""
    commands = [
        [PEFT, "generate", "--model", MODEL, "--quantize", "nf4", "--threads", arguments.threads, "--prompt", prompt,
         "--max-new-tokens", count, "--json"]
        for prompt, count in ((long_prompt, 1), (SHORT_PROMPT, arguments.new_tokens))]
    (prefill, _), (generation, _) = map(run_json, commands)
    require_length(arguments, "peft", prefill)
    if generation["num_new_tokens"] != arguments.new_tokens:
        raise SystemExit(f"error: peft ended the text after {generation['num_new_tokens']} tokens; choose another prompt")
    return Speeds("ours", prefill["prompt_tokens_per_second"], generation["tokens_per_second"]), commands


def require_length(arguments, side, result):
    """The long prompt must have the same number of tokens on both sides."""
    if result["num_prompt_tokens"] != arguments.prompt_tokens:
        raise SystemExit(f"error: {side} makes {result['num_prompt_tokens']} tokens of the prompt, expected {arguments.prompt_tokens}")


def report(arguments, load, runs, commands):
    """The lines of the result file."""
    peer = re.search(r"llama_cpp_python==\S+", (ROOT / "scripts/llama/requirements.txt").read_text())[0]
    row = "| {} | {:.0f} | {:.1f} |".format
    median = {
        side: [median_by([run for run in runs if run.side == side], key) for key in ("prompt", "generation")]
        for side in ("llama.cpp", "ours")}
    prompt, generation = (ours / peer for ours, peer in zip(median["ours"], median["llama.cpp"]))
    return [
        *heading(
            f"Generation, SmolLM2-135M, {arguments.threads} threads", load, "Ours reads the file into NF4, double quantized",
            f"The peer here is {peer}, compiled for this processor, with the file's own blocks"),
        f"| run, in this order | prompt of {arguments.prompt_tokens} tokens, tokens/s | {arguments.new_tokens} new tokens, tokens/s |",
        "|---|---|---|", *(row(run.side, run.prompt, run.generation) for run in runs),
        *(row(f"**median, {side}**", *speeds) for side, speeds in median.items()), "",
        f"Ours / llama.cpp: **{prompt:.2f}** times the tokens/s of the prompt, **{generation:.2f}** times those of generation.", "",
        "```", *(shown(map(shorten, command)) for command in commands), "```"]


def shorten(word):
    """A word of a command line, quoted and cut if it is a prompt."""
    word = str(word)
    return f"'{word[:40]}{'...' if len(word) > 40 else ''}'" if " " in word else word


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    # Each of these words is one token.
    long_prompt = "The" + " history" * (arguments.prompt_tokens - 1)
    runs, commands = [], []
    for _ in range(arguments.pairs):
        made = [measure(arguments, long_prompt) for measure in (measure_peer, measure_ours)]
        runs += [run for run, _ in made]
        commands = [command for _, several in made for command in several]
    write_result("generate-", report(arguments, load, runs, commands))


if __name__ == "__main__":
    main()
