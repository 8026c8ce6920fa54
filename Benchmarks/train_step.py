#!/usr/bin/env python3
"""Training speed, memory and start of `peft train` beside Hugging Face PEFT + bitsandbytes, alternating in one run.

QLoRA on SmolLM2-135M (NF4, double quantized, LoRA r=16 on all linears, bfloat16), random tokens, for each case: a batch of rows of a
length, with or without activation checkpointing, on one or two threads. Peer, ours, peer, ours; the limit of the machine's products is
measured before and after each. The peer computes in bfloat16; `--float32` measures it in float32 as well, which is its faster setting on processors
without bfloat16 products. With `--without-avx512` both sides are held to AVX2 by the variables of our kernels and of libtorch, oneDNN and
MKL, and the peer computes in float32 alone: oneDNN imitates bfloat16 products there, and four steps of the peer take minutes. Writes Benchmarks/Results/<date>-<cpu>.md. Run it by `make bench` on an idle machine: only the ratios of one
run count.
"""

import argparse
import dataclasses
import os
import re
import statistics
import sys

from measuring import heading, median_by, run_json, shown, write_result
from sides import Case, measure_ours, measure_peer

# What holds a process to AVX2; bitsandbytes has no such variable, and decodes with what it finds.
WITHOUT_AVX512 = {
    "PEFT_INSTRUCTION_SET": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
CASES = ["2x512", "1x1024", "1x4096/4", "8x128", "2x512+c", "1x4096+c/4", "2x512@1"]


def parse_case(text):
    """`2x512`, with `+c` for checkpointing, `@1` for one thread, `/4` for four steps."""
    match = re.fullmatch(r"(\d+)x(\d+)(\+c)?(?:@(\d+))?(?:/(\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not a case such as 2x512, 1x4096+c/4 or 2x512@1")
    batch, length, recompute, threads, steps = match.groups()
    return Case(int(batch), int(length), bool(recompute), int(threads or 2), int(steps or 8))


def measure_limit(threads, dtype):
    """The tokens a second that the machine's products allow now, by Benchmarks/product_limit.py."""
    limit, _ = run_json([sys.executable, "Benchmarks/product_limit.py", "--threads", threads, "--dtype", dtype])
    return limit["tokens_per_second"]


def measure(case, arguments):
    """All runs of a case, each with the mean of the limits measured before and after it."""
    dtypes = [] if arguments.without_avx512 else ["bfloat16"]
    dtypes += ["float32"] if arguments.float32 or arguments.without_avx512 else []
    rows, before = [], measure_limit(case.threads, dtypes[0])
    for _ in range(arguments.pairs):
        for dtype in dtypes:
            for run in (lambda: measure_peer(case, dtype), lambda: measure_ours(case)):
                row, after = run(), measure_limit(case.threads, dtypes[0])
                rows.append(dataclasses.replace(row, limit=(before + after) / 2))
                before = after
    return rows


def summary(case, rows):
    """The case's line of the summary."""
    by_side = {side: [row for row in rows if row.side == side] for side in {row.side for row in rows}}
    peer = max((side for side in by_side if side != "ours"), key=lambda side: median_by(by_side[side], "tokens_per_second"))
    ours, theirs = by_side["ours"], by_side[peer]
    speed, peer_speed = (median_by(side, "tokens_per_second") for side in (ours, theirs))
    memory, peer_memory = (median_by(side, "peak_bytes") / 1e9 for side in (ours, theirs))
    ready, peer_ready = (median_by(side, "ready_seconds") for side in (ours, theirs))
    share, peer_share = (statistics.median(row.tokens_per_second / row.limit for row in side) for side in (ours, theirs))
    return (
        f"| {case.title} | {peer_speed:.0f} | {speed:.0f} | **{speed / peer_speed:.2f}** | {peer_share:.0%} | {share:.0%} | "
        f"{peer_memory:.2f} | {memory:.2f} | {memory / peer_memory:.2f} | {peer_ready:.1f} | {ready:.2f} |")


def details(case, rows):
    """Every run of a case in its order, and the command lines."""
    line = "| {} | {:.0f} | {:.0f} | {:.2f} | {:.2f} | {:.2f} |".format
    return [
        f"## {case.title}", "", "| run, in this order | tokens/s | limit | ready, s | first step done, s | peak memory, GB |",
        "|---|---|---|---|---|---|",
        *(line(m.side, m.tokens_per_second, m.limit, m.ready_seconds, m.first_step_seconds, m.peak_bytes / 1e9) for m in rows), "",
        "```", *(shown(m.command) for m in rows[:2]), "```", ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", type=parse_case, default=[parse_case(text) for text in CASES], metavar="CASE",
                        help=f"by default {' '.join(CASES)}: rows x tokens, +c checkpointing, @threads, /steps")
    parser.add_argument("--pairs", type=int, default=2, help="runs of each side")
    parser.add_argument("--float32", action="store_true", help="measure the peer in float32, too")
    parser.add_argument("--without-avx512", action="store_true", help="hold both sides to AVX2")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    name, held = "", []
    if arguments.without_avx512:
        os.environ.update(WITHOUT_AVX512)
        name = "without-avx512-"
        held = ["Both sides with " + " ".join(f"{key}={value}" for key, value in WITHOUT_AVX512.items())]
    measured = [(case, measure(case, arguments)) for case in arguments.cases]
    write_result(name, [
        *heading(
            "QLoRA training step, SmolLM2-135M, beside the peer", load, *held,
            "Speeds are medians of the steps after the second, then of the runs",
            "Limit: the tokens/s of a step's products, at the rate that libtorch keeps up on its best shape, before and after each run "
            "(mean); attention not counted. Where it differs between runs, the machine was not the same: shares compare then, speeds do not",
            "Ready: seconds from the start of the process to that of the first step; ours includes the preflight"),
        "| case | peer, tokens/s | ours | ratio | peer, share of limit | ours | peer, GB | ours | ratio | peer ready, s | ours |",
        "|---|---|---|---|---|---|---|---|---|---|---|", *(summary(*one) for one in measured), "",
        *(line for case, rows in measured for line in details(case, rows))])


if __name__ == "__main__":
    main()
