#!/usr/bin/env python3
"""Two processes of `peft launch` beside two of Hugging Face PEFT + bitsandbytes under FSDP, and beside one of ours.

QLoRA on SmolLM2-135M (NF4, double quantized, LoRA r=16 on all linears, bfloat16), a global batch of 2 x 512 random tokens, activations
computed again on all sides: the peer's FSDP, ours in two processes of one thread, ours in one process of two threads, in turns. Writes
Benchmarks/Results/<date>-sharded-<cpu>.md. Run it by `make bench` on an idle machine: only the ratios of one run count.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import sys

from measuring import PEFT, WORK, heading, median_by, run_json, run_measured, write_result
from sides import Case, our_command, peer_folder, random_data

from harness.command import read_metrics

PEER, OURS, ALONE = "peer, 2 processes x 1 thread", "ours, 2 processes x 1 thread", "ours, 1 process x 2 threads"


@dataclasses.dataclass
class Measurement:
    """What one run gave; memory of one process."""

    side: str
    tokens_per_second: float
    peak_bytes: int


def measure_peer(case, dtype):
    """Two processes of the peer, computing in a dtype; the memory is rank 0's."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "Benchmarks/peer/hf_qlora.py",
        "--model", peer_folder(), "--batch", case.batch // 2, "--length", case.length, "--steps", case.steps, "--threads", "1",
        "--recompute", "--sharded", "--dtype", dtype]
    result, _ = run_json(command)
    return Measurement(PEER, result["tokens_per_second"], result["peak_bytes"])


def measure_ours(case, data, processes):
    """Our command in one or two processes, two threads in all."""
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    share = dataclasses.replace(case, batch=case.batch // processes, threads=2 // processes)
    command = our_command(share, data)
    run_measured([PEFT, "launch", "--nproc", processes, "--", *command[1:]] if processes > 1 else command)
    lines = read_metrics(WORK / "ours")
    return Measurement(
        OURS if processes > 1 else ALONE, statistics.median(line["tokens_per_second"] for line in lines[2:]),
        max(line["peak_memory_bytes"] for line in lines))


def report(case, dtype, load, measurements):
    """The text of the result file."""
    sides = [PEER, OURS, ALONE]
    median = {
        side: [median_by([m for m in measurements if m.side == side], key) for key in ("tokens_per_second", "peak_bytes")]
        for side in sides}
    row = "| {} | {:.0f} | {:.2f} |".format
    table = [row(m.side, m.tokens_per_second, m.peak_bytes / 1e9) for m in measurements]
    table += [row(f"**median, {side}**", speed, peak / 1e9) for side, (speed, peak) in median.items()]
    return [
        *heading(
            f"QLoRA in two processes, SmolLM2-135M, global batch 2 x {case.length}, recomputation", load,
            f"{case.steps} steps a run, speeds are medians of the steps after the second; memory is rank 0's peak",
            f"The peer computes in {dtype}"),
        "| run, in this order | tokens/s | peak memory of a process, GB |", "|---|---|---|", *table, "",
        f"Two processes of ours / of the peer: **{median[OURS][0] / median[PEER][0]:.2f}** times the tokens/s, "
        f"{median[OURS][1] / median[PEER][1]:.2f} times the memory. Two of ours / one: {median[OURS][0] / median[ALONE][0]:.2f} times "
        f"the tokens/s, {median[OURS][1] / median[ALONE][1]:.2f} times the memory each."]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--float32", action="store_true", help="the peer in float32, its faster dtype where bfloat16 has no instructions")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    case = Case(2, arguments.length, recompute=True, steps=arguments.steps)
    data, dtype = random_data(case), "float32" if arguments.float32 else "bfloat16"
    measurements = []
    for _ in range(arguments.rounds):
        measurements.append(measure_peer(case, dtype))
        measurements += [measure_ours(case, data, processes) for processes in (2, 1)]
    write_result("sharded-", report(case, dtype, load, measurements))


if __name__ == "__main__":
    main()
