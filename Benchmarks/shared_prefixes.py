#!/usr/bin/env python3
"""Tokens a second with and without `--share-prefixes`: rows with one system prompt, and pairs of answers to one prompt.

QLoRA on SmolLM2-135M as in train_step.py; tokens are counted alike on both sides. The share of tokens that is computed says what to expect
of all but attention. Writes Benchmarks/Results/<date>-prefixes-<cpu>.md. Run it by `make bench` on an idle machine: only ratios count.
"""

import argparse
import json
import os
import statistics

from measuring import VOCABULARY, WORK, heading, median_by, shown, write_result
from sides import Case, Measurement, our_command, run_ours

from harness.command import bundled_chats, write_rows
from harness.models import random_rows


def rows_with_one_system_prompt(case, shared):
    """Random rows that begin with the same tokens."""
    prompt, *rows = random_rows(1, VOCABULARY, [shared] + [case.length - shared] * case.batch * case.steps)
    return write_rows(WORK / "system.jsonl", [prompt + row for row in rows])


def pairs(case, prompt_words):
    """Pairs of the bundled dataset's answers to long prompts of its texts."""
    chats = bundled_chats("train")
    texts = [message["content"] for chat in chats for message in chat]
    words = " ".join(texts).split()
    rows = []
    for pair in range(case.batch * case.steps):
        start = pair * prompt_words % (len(words) - prompt_words)
        answers = [chats[(2 * pair + index) % len(chats)][-1]["content"] for index in (0, 1)]
        rows.append(dict(prompt=" ".join(words[start:start + prompt_words]) + "\n", chosen=answers[0], rejected=answers[1]))
    path = WORK / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def measure(side, case, data, *options):
    """One run, by the tokens of its rows whether they are computed or not."""
    command = our_command(case, data, *options)
    metrics, seconds, peak = run_ours(command)
    speed = statistics.median(line["tokens_per_second"] for line in metrics[2:])
    return Measurement(side, speed, seconds["started"], seconds["step"], peak, command)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    system, preference = Case(4, 256), Case(2, 512)
    cases = [
        ("4 rows of 256 tokens, 128 of them the same", system, rows_with_one_system_prompt(system, 128), []),
        ("2 pairs (DPO), prompts of 150 words", preference, pairs(preference, 150), ["--loss-type", "sigmoid"]),
    ]
    table, commands = [], []
    for name, case, data, options in cases:
        runs = []
        for _ in range(arguments.rounds):
            runs.append(measure("each", case, data, *options))
            runs.append(measure("shared", case, data, *options, "--share-prefixes"))
        sides = [[run for run in runs if run.side == side] for side in ("each", "shared")]
        speeds = [median_by(side, "tokens_per_second") for side in sides]
        memory = [median_by(side, "peak_bytes") / 1e9 for side in sides]
        table.append(
            f"| {name} | {speeds[0]:.0f} | {speeds[1]:.0f} | **{speeds[1] / speeds[0]:.2f}** | {memory[0]:.2f} | {memory[1]:.2f} |")
        commands += [shown(run.command) for run in runs[:2]]
    write_result("prefixes-", [
        *heading("Common beginnings of rows computed once", load, "Medians of the steps after the second"),
        "| rows | tokens/s, each row by itself | shared | ratio | peak memory, GB | shared |", "|---|---|---|---|---|---|", *table, "",
        "```", *commands, "```"])


if __name__ == "__main__":
    main()
