#!/usr/bin/env python3
"""How many tokens a second the machine's products, in bfloat16 by default, allow a training step of SmolLM2-135M: the limit that it is measured by.

A step's products are those of every linear layer and of the output head, forward and for the input's gradient, and the low-rank terms
of rank 16 with their gradients; attention is not counted. They are divided by the rate that libtorch (oneDNN) keeps up on the best of the
layers' shapes, 1,024 tokens at once: a mean over time and not the fastest product, since a machine that is paused now and then pauses a
training step, too. Prints one JSON line.
"""

import argparse
import json
import time

import torch

HIDDEN, INTERMEDIATE, KEY_VALUE, VOCABULARY, BLOCKS, RANK, TOKENS = 576, 1536, 192, 49152, 30, 16, 1024
# (in, out) and how many of a block.
LINEARS = {(HIDDEN, HIDDEN): 2, (HIDDEN, KEY_VALUE): 2, (HIDDEN, INTERMEDIATE): 2, (INTERMEDIATE, HIDDEN): 1}


def operations_per_token():
    """Multiplications and additions of a step for each token."""
    base = BLOCKS * sum(count * inside * outside for (inside, outside), count in LINEARS.items()) + HIDDEN * VOCABULARY
    low_rank = BLOCKS * sum(count * RANK * (inside + outside) for (inside, outside), count in LINEARS.items())
    return 2 * 2 * base + 2 * 3 * low_rank


def best_rate(seconds, dtype):
    """The operations a second of the layers' fastest product, forward or backward, each repeated for so many seconds."""
    best = 0.0
    for inside, outside in [*LINEARS, (HIDDEN, VOCABULARY)]:
        weight = torch.randn(outside, inside, dtype=dtype)
        for operand, factor in ((torch.randn(TOKENS, inside), weight.T), (torch.randn(TOKENS, outside), weight)):
            operand = operand.to(dtype)
            operand @ factor
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                operand @ factor
                count += 1
            best = max(best, count * 2 * TOKENS * inside * outside / (time.perf_counter() - start))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--seconds", type=float, default=0.3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rate = best_rate(arguments.seconds, getattr(torch, arguments.dtype))
    print(json.dumps(dict(
        gflops=rate / 1e9, megaflop_per_token=operations_per_token() / 1e6, tokens_per_second=rate / operations_per_token())))


if __name__ == "__main__":
    main()
