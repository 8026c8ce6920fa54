#!/usr/bin/env python3
"""Rows a second on the bundled dataset: ours packs them into rows of 512 tokens, the peer pads a batch to its longest row.

QLoRA on SmolLM2-135M as in train_step.py, only the answers are learned. The peer runs at several batch sizes and is taken at its best.
Writes Benchmarks/Results/<date>-packed-<cpu>.md. Run it by `make bench` on an idle machine: only the ratio of one run counts.
"""

import argparse
import json
import os
import statistics

from measuring import ROOT, WORK, heading, shown, write_result
from sides import Case, our_command, peer_folder, peer_run, run_ours
from transformers import AutoTokenizer

from harness.command import bundled_chats, write_rows

DATA = ROOT / "Examples" / "wordnet" / "train.jsonl"


def peer_rows(folder):
    """A file of the dataset's rows as token ids, and their mean length."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def row(messages):
        tokens = tokenizer.apply_chat_template(messages, return_dict=False)
        given = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
        return dict(tokens=tokens, num_given=len(given))

    rows = [row(messages) for messages in bundled_chats("train")]
    return write_rows(WORK / "wordnet.jsonl", rows), statistics.mean(len(row["tokens"]) for row in rows)


def measure_ours(mean_length, case):
    """Rows a second of ours, from its tokens a second; and the command."""
    command = our_command(case, DATA, "--packing", "--assistant-only-loss")
    metrics, _, peak = run_ours(command)
    return statistics.median(line["tokens_per_second"] for line in metrics[2:]) / mean_length, peak, command


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--pairs", type=int, default=2)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    data, mean_length = peer_rows(peer_folder())
    measured, commands = {}, {}
    for _ in range(arguments.pairs):
        for size in arguments.batch_sizes:
            case = Case(size, 512, steps=max(6, 256 // size))
            commands[size], result, peak = peer_run(case, "--rows", data)
            measured.setdefault(f"peer, {size} rows padded", []).append((result["rows_per_second"], peak))
        speed, peak, commands["ours"] = measure_ours(mean_length, Case(2, 512, steps=20))
        measured.setdefault("ours, packed into 2 x 512 tokens", []).append((speed, peak))
    medians = {side: [statistics.median(values) for values in zip(*runs)] for side, runs in measured.items()}
    ours = medians["ours, packed into 2 x 512 tokens"]
    best = max((side for side in medians if side.startswith("peer")), key=lambda side: medians[side][0])
    row = "| {} | {} | {:.2f} | {:.2f} |".format
    write_result("packed-", [
        *heading("Rows a second on Examples/wordnet/train.jsonl", load, f"Rows have {mean_length:.0f} tokens on average"),
        "| side | rows/s of each run | median | peak memory, GB |", "|---|---|---|---|",
        *(row(side, ", ".join(f"{run[0]:.2f}" for run in measured[side]), *(speed, peak / 1e9))
          for side, (speed, peak) in medians.items()), "",
        f"Ours / {best}: **{ours[0] / medians[best][0]:.2f}** times the rows a second.", "",
        "```", *(shown(command) for command in commands.values()), "```"])


if __name__ == "__main__":
    main()
