#!/usr/bin/env python3
"""Generation speed of `peft generate` beside llama.cpp, alternating in one run.

llama.cpp, ours, llama.cpp, ours on the same GGUF file with the same number of threads: a prompt of 512 tokens up to its first new token, and
greedy generation of 128 tokens after a short prompt. llama.cpp computes with the file's own blocks, its figures are medians of
several measurements after a run to warm up; ours reads the file into NF4 with double quantization, each figure is one process's first
and only. Writes Benchmarks/Results/<date>-generate-<cpu>.md. Run it by `make bench` on an idle machine: only the ratios of one run count.
"""

import argparse
import dataclasses
import json
import os
import re
import statistics
import subprocess

from train_step import ROOT, machine, result_path, run_measured

SHORT_PROMPT = "The history of the city of Rome begins"
PEER_PYTHON = ".venv-llama/bin/python"


@dataclasses.dataclass
class Speeds:
    """What one run gave, in tokens/s."""

    side: str
    prompt: float
    generation: float


def measure_peer(arguments, model, long_prompt, work):
    """One run of llama.cpp."""
    command = [
        PEER_PYTHON, "Benchmarks/peer/llama_generate.py", "--model", str(model), "--threads", str(arguments.threads),
        "--short-prompt", SHORT_PROMPT, "--long-prompt", long_prompt, "--new-tokens", str(arguments.new_tokens)]
    run_measured(command, work / "llama.json")
    result = json.loads((work / "llama.json").read_text())
    require_length(arguments, "llama.cpp", result)
    return Speeds("llama.cpp", result["prompt_tokens_per_second"], result["tokens_per_second"]), [command]


def measure_ours(arguments, model, long_prompt, work):
    """One run of the built command for the long prompt, one for the new tokens."""
    results, commands = [], []
    for prompt, count in ((long_prompt, 1), (SHORT_PROMPT, arguments.new_tokens)):
        command = [
            str(ROOT / ".build/release/peft"), "generate", "--model", str(model), "--quantize", "nf4", "--threads",
            str(arguments.threads), "--prompt", prompt, "--max-new-tokens", str(count), "--json"]
        run_measured(command, work / "ours.json")
        results.append(json.loads((work / "ours.json").read_text()))
        commands.append(command)
    require_length(arguments, "peft", results[0])
    if results[1]["num_new_tokens"] != arguments.new_tokens:
        raise SystemExit(f"error: peft ended the text after {results[1]['num_new_tokens']} tokens; choose another prompt")
    return Speeds("ours", results[0]["prompt_tokens_per_second"], results[1]["tokens_per_second"]), commands


def require_length(arguments, side, result):
    """The long prompt must have the same number of tokens on both sides."""
    if result["num_prompt_tokens"] != arguments.prompt_tokens:
        raise SystemExit(f"error: {side} makes {result['num_prompt_tokens']} tokens of the prompt, expected {arguments.prompt_tokens}")


def report(arguments, runs, commands):
    """The text of the result file."""
    version = subprocess.run([ROOT / ".build/release/peft", "--version"], capture_output=True, text=True, check=True).stdout
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout
    peer = re.search(r"llama_cpp_python==\S+", (ROOT / "scripts/llama/requirements.txt").read_text())[0]
    row = "| {} | {:.0f} | {:.1f} |".format
    median = {
        side: [statistics.median(getattr(run, key) for run in runs if run.side == side) for key in ("prompt", "generation")]
        for side in ("llama.cpp", "ours")}
    table = [row(run.side, run.prompt, run.generation) for run in runs]
    table += [row(f"**median, {side}**", *speeds) for side, speeds in median.items()]
    prompt, generation = (ours / peer for ours, peer in zip(median["ours"], median["llama.cpp"]))
    shown = "\n".join(" ".join(shorten(word) for word in command) for command in commands)
    return "\n".join([
        f"# Generation, SmolLM2-135M, {arguments.threads} threads", "",
        f"- Machine: {machine()[1]}; load average at the start {arguments.load:.2f}",
        f"- Ours: {', '.join(version.split(chr(10))).strip(', ')}, revision {revision.strip()}; NF4, double quantized",
        f"- Peer: {peer}, compiled for this processor; the file's own blocks", "",
        f"| run, in this order | prompt of {arguments.prompt_tokens} tokens, tokens/s | {arguments.new_tokens} new tokens, tokens/s |",
        "|---|---|---|", *table, "",
        f"Ours / llama.cpp: **{prompt:.2f}** times the tokens/s of the prompt, **{generation:.2f}** times those of generation.", "",
        "```", shown, "```", ""])


def shorten(word):
    """A word of a command line as the report shows it."""
    word = word.replace(str(ROOT) + "/", "")
    return f"'{word[:40]}{'...' if len(word) > 40 else ''}'" if " " in word else word


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.load = os.getloadavg()[0]
    work = ROOT / ".cache" / "bench"
    work.mkdir(parents=True, exist_ok=True)
    model = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    # Each of these words is one token.
    long_prompt = "The" + " history" * (arguments.prompt_tokens - 1)
    runs, commands = [], []
    for _ in range(arguments.pairs):
        commands = []
        for measure in (measure_peer, measure_ours):
            run, made = measure(arguments, model, long_prompt, work)
            runs.append(run)
            commands += made
    path = result_path("generate-")
    path.write_text(report(arguments, runs, commands))
    print(path.read_text())
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
