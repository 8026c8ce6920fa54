#!/usr/bin/env python3
"""Two processes of `peft launch` beside two of Hugging Face PEFT + bitsandbytes under FSDP, and beside one of ours.

QLoRA on SmolLM2-135M (NF4, double quantized, LoRA r=16 on all linears, bfloat16), a global batch of 2 x 512 random tokens, activations
computed again on all sides: the peer's FSDP, ours in two processes of one thread, ours in one process of two threads, in turns. Writes
Benchmarks/Results/<date>-sharded-<cpu>.md. Run it by `make bench` on an idle machine: only the ratios of one run count.
"""

import argparse
import json
import os
import shutil
import statistics
import sys

from train_step import ROOT, VOCABULARY, Measurement, machine, our_command, result_path, run_measured

from harness.command import read_metrics, write_rows
from harness.models import dequantized_folder, random_rows

PEER, OURS, ALONE = "peer, 2 processes x 1 thread", "ours, 2 processes x 1 thread", "ours, 1 process x 2 threads"


def measure_peer(arguments, folder, work):
    """Two processes of the peer; the memory is rank 0's."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "Benchmarks/peer/hf_qlora.py",
        "--model", str(folder), "--batch", "1", "--length", str(arguments.length), "--steps", str(arguments.steps), "--threads", "1",
        "--recompute", "--sharded"]
    run_measured(command, work / "peer.json")
    result = json.loads((work / "peer.json").read_text().strip().splitlines()[-1])
    return Measurement(PEER, result["tokens_per_second"], result["first_step_seconds"], result["peak_bytes"])


def measure_ours(arguments, model, data, work, processes):
    """Our command in one or two processes, two threads in all."""
    out = work / "ours-sharded"
    shutil.rmtree(out, ignore_errors=True)
    options = argparse.Namespace(length=arguments.length, batch=2 // processes, steps=arguments.steps, threads=2 // processes)
    command = our_command("train", options, model, data, out) + ["--gradient-checkpointing"]
    if processes > 1:
        command = [command[0], "launch", "--nproc", str(processes), "--"] + command[1:]
    run_measured(command, work / "ours.log")
    lines = read_metrics(out)
    return Measurement(
        OURS if processes > 1 else ALONE, statistics.median(line["tokens_per_second"] for line in lines[2:]), 0,
        max(line["peak_memory_bytes"] for line in lines))


def report(arguments, measurements):
    """The text of the result file."""
    sides = [PEER, OURS, ALONE]
    median = {
        side: [statistics.median(getattr(m, key) for m in measurements if m.side == side) for key in ("tokens_per_second", "peak_bytes")]
        for side in sides}
    row = "| {} | {:.0f} | {:.2f} |".format
    table = [row(m.side, m.tokens_per_second, m.peak_bytes / 1e9) for m in measurements]
    table += [row(f"**median, {side}**", speed, peak / 1e9) for side, (speed, peak) in median.items()]
    return "\n".join([
        f"# QLoRA in two processes, SmolLM2-135M, global batch 2 x {arguments.length}, recomputation", "",
        f"- Machine: {machine()[1]}; load average at the start {arguments.load:.2f}",
        f"- {arguments.steps} steps a run, speeds are medians of the steps after the second; memory is rank 0's peak", "",
        "| run, in this order | tokens/s | peak memory of a process, GB |", "|---|---|---|", *table, "",
        f"Two processes of ours / of the peer: **{median[OURS][0] / median[PEER][0]:.2f}** times the tokens/s, "
        f"{median[OURS][1] / median[PEER][1]:.2f} times the memory. Two of ours / one: {median[OURS][0] / median[ALONE][0]:.2f} times "
        f"the tokens/s, {median[OURS][1] / median[ALONE][1]:.2f} times the memory each.", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.load = os.getloadavg()[0]
    work = ROOT / ".cache" / "bench"
    work.mkdir(parents=True, exist_ok=True)
    model = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = dequantized_folder(model, ROOT / ".cache/parity/smollm2-float32")
    data = write_rows(work / "rows.jsonl", random_rows(1, VOCABULARY, [arguments.length] * 2 * arguments.steps))
    measurements = []
    for _ in range(arguments.rounds):
        measurements.append(measure_peer(arguments, folder, work))
        measurements += [measure_ours(arguments, model, data, work, processes) for processes in (2, 1)]
    path = result_path("sharded-")
    path.write_text(report(arguments, measurements))
    print(path.read_text())
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
