#!/usr/bin/env python3
"""llama.cpp's greedy continuations of prompts, with or without an adapter, as one line of JSON. Runs in .venv-llama."""

import argparse
import json

import llama_cpp


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--new-tokens", type=int, required=True)
    parser.add_argument("prompts", nargs="+")
    arguments = parser.parse_args()
    llama = llama_cpp.Llama(
        arguments.model, lora_path=arguments.lora, n_ctx=256, n_threads=1, n_threads_batch=1, seed=0, verbose=False)
    result = []
    for prompt in arguments.prompts:
        ids = llama.tokenize(prompt.encode(), add_bos=False, special=True)
        answer = llama.create_completion(ids, max_tokens=arguments.new_tokens, temperature=0, top_k=1, repeat_penalty=1)
        result.append({"tokens": ids, "text": answer["choices"][0]["text"]})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
