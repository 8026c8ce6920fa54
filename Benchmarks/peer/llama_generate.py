#!/usr/bin/env python3
"""llama.cpp on a GGUF file: tokens/s of a prompt and of greedy generation after a short one, as one line of JSON.

Runs in .venv-llama and calls llama.cpp's own functions, so that the bindings cost nothing: one call a token, the likeliest token by
NumPy. Everything is run once before it is measured.
"""

import argparse
import ctypes
import json
import statistics
import time

import llama_cpp
import numpy


class Session:
    """A model and its context."""

    def __init__(self, path, threads, capacity):
        self.llama = llama_cpp.Llama(
            str(path), n_ctx=capacity, n_batch=512, n_ubatch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
        self.context = self.llama.ctx

    def feed(self, tokens):
        """Runs tokens after those before; returns the likeliest next one."""
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        status = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens)))
        if status != 0:
            raise SystemExit(f"error: llama_decode of {len(tokens)} tokens: status {status}")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(ctypes.cast(logits, ctypes.POINTER(ctypes.c_float)), (self.llama.n_vocab(),)).argmax())

    def clear(self):
        """Forgets all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def prompt_speed(self, tokens):
        """Tokens/s up to the choice of the first new token."""
        self.clear()
        start = time.perf_counter()
        self.feed(tokens)
        return len(tokens) / (time.perf_counter() - start)

    def generation_speed(self, tokens, count):
        """Tokens/s of the new tokens after the first."""
        self.clear()
        token = self.feed(tokens)
        start = time.perf_counter()
        for _ in range(count - 1):
            token = self.feed([token])
        return (count - 1) / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--short-prompt", required=True)
    parser.add_argument("--long-prompt", required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    session = Session(arguments.model, arguments.threads, 1024)
    short, long = (session.llama.tokenize(text.encode()) for text in (arguments.short_prompt, arguments.long_prompt))
    session.prompt_speed(long)
    session.generation_speed(short, 8)
    print(json.dumps({
        "num_prompt_tokens": len(long),
        "prompt_tokens_per_second": statistics.median(session.prompt_speed(long) for _ in range(arguments.repeats)),
        "tokens_per_second": statistics.median(
            session.generation_speed(short, arguments.new_tokens) for _ in range(arguments.repeats)),
    }))


if __name__ == "__main__":
    main()
