#!/usr/bin/env python3
"""Times of every kernel of a training step beside libtorch's operations for the same layer.

Benchmarks/KernelTimes runs each layer at the shapes of SmolLM2-135M, 2 x 512 tokens in bfloat16: once with the kernels of this processor and once
with PEFT_INSTRUCTION_SET=portable, alternating. Writes Benchmarks/Results/<date>-kernels-<cpu>.md. Run it by `make bench` on an idle machine:
only the ratios of one run count.
"""

import argparse
import json
import os
import statistics
import subprocess

from measuring import ROOT, heading, write_result

PROGRAM = ROOT / ".build/release/KernelTimes"


def measure(threads, instruction_set):
    """The program's lines by kernel; None is the processor's own instruction set."""
    chosen = {"PEFT_INSTRUCTION_SET": instruction_set} if instruction_set else {}
    output = subprocess.run([PROGRAM, str(threads)], check=True, capture_output=True, text=True, env={**os.environ, **chosen}).stdout
    return {line["kernel"]: line for line in map(json.loads, output.splitlines())}


def row(kernel, ours, theirs):
    """A kernel's line: medians over the runs, milliseconds, and what it does a second."""
    def median(runs, key):
        return statistics.median(run[kernel][key] for run in runs) if key in runs[0][kernel] else float("nan")

    cells = []
    for key in ("forward_seconds", "backward_seconds"):
        own, other = median(ours, key), median(theirs, key)
        cells += [f"{other * 1e3:.2f}", f"{own * 1e3:.2f}", f"**{other / own:.2f}**"] if own == own else ["", "", ""]
    line = ours[0][kernel]
    unit = "flop" if "flop" in line else "byte"
    rate = line[unit] / median(ours, "forward_seconds") / 1e9
    return f"| {kernel} | {' | '.join(cells)} | {rate:.0f} {'GFLOP/s' if unit == 'flop' else 'GB/s'} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    theirs, ours = [], []
    for _ in range(arguments.pairs):
        theirs.append(measure(arguments.threads, "portable"))
        ours.append(measure(arguments.threads, None))
    write_result("kernels-", [
        *heading(
            "Kernels beside libtorch's operations, SmolLM2-135M's shapes, 2 x 512 tokens, bfloat16", load,
            f"{arguments.threads} threads; milliseconds, medians; the head's gradient is computed in its forward pass"),
        "| layer | forward, libtorch | ours | ratio | backward, libtorch | ours | ratio | forward does |", "|---|---|---|---|---|---|---|---|",
        *(row(kernel, ours, theirs) for kernel in ours[0]), "",
        "```", f"python Benchmarks/kernels.py --pairs {arguments.pairs} --threads {arguments.threads}", "```"])


if __name__ == "__main__":
    main()
