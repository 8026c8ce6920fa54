#!/usr/bin/env python3
"""Tokens a second of `peft score` beside the peer's forward pass with its loss, without gradients.

SmolLM2-135M in NF4, bfloat16, rows of 512 random tokens, 8 at once. Ours is measured from outside: the time that 64 rows take longer than 16,
so that start and reading do not count; the peer measures its own passes. Writes Benchmarks/Results/<date>-score-<cpu>.md. Run it by
`make bench` on an idle machine: only the ratio of one run counts.
"""

import argparse
import os
import statistics
import time

from measuring import MODEL, PEFT, VOCABULARY, WORK, heading, run_measured, shown, write_result
from sides import Case, peer_run

from harness.command import write_rows
from harness.models import random_rows


def score(case, num_rows):
    """Seconds of a score of so many rows, start included; its peak of memory; the command."""
    data = write_rows(WORK / "score.jsonl", random_rows(1, VOCABULARY, [case.length] * num_rows))
    command = [PEFT, "score", "--model", MODEL, "--data", data, "--batch-size", case.batch, "--threads", case.threads]
    start = time.perf_counter()
    peak = run_measured(command)
    return time.perf_counter() - start, peak, command


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    case = Case(batch=8, length=512, steps=6)
    rows = []
    for _ in range(arguments.pairs):
        peer_command, peer, peer_peak = peer_run(case, "--score")
        (short, _, _), (long, peak, command) = (score(case, number) for number in (16, 64))
        rows.append((peer["tokens_per_second"], 48 * case.length / (long - short), peer_peak / 1e9, peak / 1e9))
    peer_speed, speed, *_ = (statistics.median(column) for column in zip(*rows))
    write_result("score-", [
        *heading("Scoring rows, SmolLM2-135M, 8 x 512", load),
        "| pair | peer, tokens/s | ours | peer, GB | ours |", "|---|---|---|---|---|",
        *("| {} | {:.0f} | {:.0f} | {:.2f} | {:.2f} |".format(i + 1, *row) for i, row in enumerate(rows)), "",
        f"Ours / peer: **{speed / peer_speed:.2f}** times the tokens/s (medians).", "", "```", shown(peer_command), shown(command), "```"])


if __name__ == "__main__":
    main()
