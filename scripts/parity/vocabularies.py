"""Tokenizers of real models equal Hugging Face's: ids, byte offsets, decoded texts, and how fast both tokenize.

The vocabularies are those of Mistral (SentencePiece and Tekken), Qwen, Gemma 3 out of its GGUF file, and one in the frame of
Llama 2 (`harness/vocabularies.py`); the text is that of `harness/texts.py`. Speed is of one thread, best of three, without checks:
it is shown, not compared.
"""

import os
import random
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from harness.command import Check  # noqa: E402
from harness.probe import probe, write_lines  # noqa: E402
from harness.texts import soup_lines, source_lines, stirred_lines  # noqa: E402
from harness.vocabularies import all_vocabularies, fetch  # noqa: E402

NUM_BYTES = 300_000


def byte_offsets(text, offsets):
    """Character offsets as byte offsets."""
    starts = [0]
    for character in text:
        starts.append(starts[-1] + len(character.encode()))
    return [[starts[start], starts[end]] for start, end in offsets]


def row(tokenizer, text):
    """What the library makes of a text."""
    encoding = tokenizer.encode(text)
    return [
        encoding.ids, byte_offsets(text, encoding.offsets), tokenizer.decode(encoding.ids, skip_special_tokens=False),
        tokenizer.decode(encoding.ids, skip_special_tokens=True)]


def speed(tokenizer, lines):
    """Bytes a second, best of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for line in lines:
            tokenizer.encode(line)
        times.append(time.perf_counter() - began)
    return sum(len(line.encode()) for line in lines) / min(times)


def compare(check, name, make, work):
    """Compares one tokenizer on all texts."""
    tokenizer = make()
    path = work / f"{name}.json"
    tokenizer.save(str(path))
    rng = random.Random(2027)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()][:200]
    sources = list(source_lines(NUM_BYTES))
    texts = sources + list(soup_lines(rng, NUM_BYTES)) + list(stirred_lines(rng, special, NUM_BYTES))
    texts += ["\n".join(sources[start : start + 40]) for start in range(0, len(sources), 400)]
    ours = probe(check, "rows", path, write_lines(work / "texts.jsonl", texts))
    theirs = [row(tokenizer, text) for text in texts]
    check.equal_each(f"{name}: rows", texts, [row[:4] for row in ours], theirs)
    check.equal_each(f"{name}: streamed", texts, [row[4] for row in ours], [row[2] for row in theirs])
    rate = probe(check, "speed", path, write_lines(work / "sources.jsonl", sources))[0]
    print(f"     {name}: {rate / 1e6:.1f} MB/s, the library {speed(tokenizer, sources) / 1e6:.1f} MB/s", flush=True)


def main():
    check = Check("vocabularies", __doc__)
    folder = check.work.parent.parent / "vocabularies"
    fetch(folder)
    for name, make in all_vocabularies(folder, check.work).items():
        check.attempt(name, compare, make, check.work)
    check.finish()


main()
