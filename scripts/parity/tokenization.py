"""`peft tokenize` gives transformers' token ids for the demo model on more than 5 MB of mixed text, line for line.

The text: sources of Python's standard library, random characters of all scripts by a fixed seed, and chats, white space and
special tokens stirred together (`harness/texts.py`).

(This file must not be called tokenizers.py: it would hide the library of that name from every script beside it.)
"""

import random

from transformers import AutoTokenizer

from harness.command import Check
from harness.texts import soup_lines, source_lines, stirred_lines

NUM_SOURCE_BYTES = 3_500_000
NUM_SOUP_BYTES = 1_300_000
NUM_STIRRED_BYTES = 800_000


def main():
    check = Check("tokenization", __doc__)
    peer = AutoTokenizer.from_pretrained(check.model.parent, gguf_file=check.model.name)
    rng = random.Random(2026)
    parts = {
        "Python sources": list(source_lines(NUM_SOURCE_BYTES)),
        "random characters": list(soup_lines(rng, NUM_SOUP_BYTES)),
        "words, spaces, special tokens": list(stirred_lines(rng, peer.all_special_tokens + list(peer.added_tokens_encoder), NUM_STIRRED_BYTES)),
    }
    num_bytes = 0
    for index, (name, lines) in enumerate(parts.items()):
        path = check.work / f"part-{index}.txt"
        content = "".join(line + "\n" for line in lines).encode()
        num_bytes += len(content)
        path.write_bytes(content)
        theirs = [peer(line).input_ids for line in lines]
        num_tokens = sum(map(len, theirs))
        check.equal_each(f"{name}, {num_tokens} tokens: lines", lines, check.tokenize(check.model, path), theirs)
    check.at_least("bytes compared", num_bytes, 5_000_000)
    check.finish()


main()
