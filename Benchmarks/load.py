#!/usr/bin/env python3
"""Seconds and memory until a QLoRA run of a 1.1B-parameter model is ready, beside the peer.

A random Llama of TinyLlama's shape in bfloat16, 2.2 GB, read from the page cache and quantized to NF4; ours is ready when it says that the steps
follow, its preflight done, the peer when its model has adapters. Writes Benchmarks/Results/<date>-load-<cpu>.md. Run it by `make bench` on an
idle machine: only the ratios of one run count.
"""

import argparse
import dataclasses
import os
import statistics
import sys

from measuring import heading, run_json, shown, write_result
from shapes import SHAPES, random_model
from sides import Case, our_command, random_data, run_ours


def read_all(folder):
    """Brings the files into the page cache; their bytes."""
    return sum(len(path.read_bytes()) for path in folder.glob("*.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    folder = random_model("llama-1.1b")
    case = dataclasses.replace(Case(batch=1, length=16), steps=1)
    ours = our_command(case, random_data(case, SHAPES["llama-1.1b"]["vocab_size"]), model=folder)
    peer = [
        sys.executable, "Benchmarks/peer/hf_qlora.py", "--model", folder, "--batch", 1, "--length", 16, "--steps", 3, "--threads",
        case.threads]
    rows = []
    for _ in range(arguments.pairs):
        size = read_all(folder)
        result, peer_peak = run_json(peer)
        _, seconds, peak = run_ours(ours)
        rows.append((result["load_seconds"], seconds["started"], peer_peak / 1e9, peak / 1e9))
    peer_seconds, own_seconds, peer_peak, peak = (statistics.median(column) for column in zip(*rows))
    write_result("load-", [
        *heading(f"Reading and quantizing a model of {size / 1e9:.1f} GB", load, f"{case.threads} threads, files in the page cache"),
        "| pair | peer ready, s | ours | peer, GB | ours |", "|---|---|---|---|---|",
        *("| {} | {:.1f} | {:.2f} | {:.2f} | {:.2f} |".format(i + 1, *row) for i, row in enumerate(rows)), "",
        f"Ours is ready **{peer_seconds / own_seconds:.1f}** times as soon, with **{peak / peer_peak:.2f}** of the peer's memory (medians).",
        "", "```", shown(peer), shown(ours), "```"])


if __name__ == "__main__":
    main()
