#!/usr/bin/env python3
"""Makes the example dataset Examples/wordnet/{train,eval}.jsonl from WordNet 3.0.

Usage: make_wordnet.py OUTPUT_FOLDER [--wordnet FOLDER]

Reads the files of Debian's package wordnet-base (1:3.0-37); needs only Python's standard library.
Each row asks for the definition of a common English word, and answers in one house style:

    {"messages": [{"role": "user", "content": "Define the noun 'glacier'."},
                  {"role": "assistant", "content": "glacier (noun): a slowly moving mass of ice."}]}

The selection is deterministic: candidates are sorted by a hash of a fixed seed, lemma and part of
speech. A lemma, a synset and a definition occur once in the two files together, so no answer to a
held-out question can be read off the training rows. The same input gives the same bytes.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

SEED = "swift-peft wordnet 1"
NUM_TRAIN = 2400
NUM_EVAL = 240
MIN_TAG_COUNT = 2  # how often the sense occurs in WordNet's hand-tagged texts
MIN_WORDS, MAX_WORDS = 4, 25

PARTS_OF_SPEECH = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
SENSE_KEY_TYPES = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}

LEMMA = re.compile(r"[a-z]{3,14}")
DEFINITION = re.compile(r"[A-Za-z][A-Za-z ,'-]*[a-z]")
# A word with any sense whose gloss says so, or that is marked as such usage, is left out.
FLAGGED_GLOSS = re.compile(
    r"slur|offensive|disparag|derogat|vulgar|obscen|taboo|slang|sexual|genital|coitus|prostitut"
    r"|penis|vagina|excrement|feces|urin|nazi|\brape|naked|murder|torture|subnormal|fornicat"
    r"|suicid|negro|ethnic|retarded|incest|\bsex\b|contemptible|despicable|incompetent fool"
)
FLAGGED_USAGE = {"ethnic_slur", "disparagement", "obscenity", "slang", "vulgarism"}


def read_synsets(folder):
    """Synsets by (part of speech, offset): words, gloss, usage pointers."""
    synsets = {}
    for pos in PARTS_OF_SPEECH:
        for line in (folder / f"data.{pos}").read_text(encoding="ascii").splitlines():
            if line.startswith(" "):
                continue  # the licence
            head, gloss = line.split(" | ", 1)
            fields = head.split()
            num_words = int(fields[3], 16)
            words = [word.split("(")[0] for word in fields[4 : 4 + 2 * num_words : 2]]
            pointers = fields[5 + 2 * num_words :]
            usages = [
                pointers[i + 1] for i in range(0, len(pointers) - 1) if pointers[i] == ";u"
            ]
            synsets[pos, fields[0]] = (words, gloss.strip(), usages)
    return synsets


def flagged_lemmas(synsets):
    """Lower-case lemmas with a sense that this dataset should not teach."""
    usages = {
        offset for (pos, offset), (words, _, _) in synsets.items()
        if pos == "noun" and FLAGGED_USAGE & {word.lower() for word in words}
    }
    flagged = set()
    for words, gloss, pointers in synsets.values():
        if FLAGGED_GLOSS.search(gloss.lower()) or usages & set(pointers):
            flagged.update(word.lower() for word in words)
    return flagged


def first_sense_counts(folder):
    """How often the first sense of each (lemma, part of speech) occurs in the tagged texts."""
    counts = {}
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, sense_number, count = line.split()
        lemma, lexical_sense = key.split("%")
        if sense_number == "1":
            counts[lemma, SENSE_KEY_TYPES[lexical_sense[0]]] = int(count)
    return counts


def first_senses(folder):
    """The synset's offset of the first sense of each (lemma, part of speech)."""
    senses = {}
    for pos in PARTS_OF_SPEECH:
        for line in (folder / f"index.{pos}").read_text(encoding="ascii").splitlines():
            if not line.startswith(" "):
                fields = line.split()
                num_synsets = int(fields[2])
                senses[fields[0], pos] = fields[-num_synsets]
    return senses


def definition_of(pos, gloss):
    """The gloss' first definition, without examples; None if it is not plain prose."""
    text = gloss.split(";")[0].strip()
    if pos == "verb":
        text = text.removeprefix("to ")  # most verbs are defined without it
    is_fit = MIN_WORDS <= len(text.split()) <= MAX_WORDS and DEFINITION.fullmatch(text)
    return text if is_fit and "--" not in text else None


def candidates(folder):
    """(lemma, part of speech, synset, definition) of each usable word, its commonest use only."""
    synsets = read_synsets(folder)
    flagged = flagged_lemmas(synsets)
    counts = first_sense_counts(folder)
    best = {}
    for (lemma, pos), offset in sorted(first_senses(folder).items()):
        count = counts.get((lemma, pos), 0)
        words, gloss, _ = synsets[pos, offset]
        definition = definition_of(pos, gloss)
        if count < MIN_TAG_COUNT or definition is None or lemma in flagged:
            continue
        if not LEMMA.fullmatch(lemma) or lemma not in words:
            continue  # several words, or a proper noun
        if lemma not in best or count > best[lemma][0]:
            best[lemma] = (count, (lemma, pos, offset, definition))
    return [candidate for _, candidate in best.values()]


def select(found):
    """The first NUM_EVAL + NUM_TRAIN candidates in the order of their hash, nothing twice."""
    def order(candidate):
        return hashlib.sha256("\0".join([SEED, *candidate[:2]]).encode()).hexdigest()

    selected, synsets, definitions = [], set(), set()
    for lemma, pos, offset, definition in sorted(found, key=order):
        if (pos, offset) in synsets or definition in definitions:
            continue
        synsets.add((pos, offset))
        definitions.add(definition)
        selected.append((lemma, pos, definition))
    if len(selected) < NUM_TRAIN + NUM_EVAL:
        raise SystemExit(f"only {len(selected)} usable words; is this WordNet 3.0?")
    return selected[:NUM_EVAL], selected[NUM_EVAL : NUM_EVAL + NUM_TRAIN]


def row(lemma, pos, definition):
    name = PARTS_OF_SPEECH[pos]
    messages = [
        {"role": "user", "content": f"Define the {name} '{lemma}'."},
        {"role": "assistant", "content": f"{lemma} ({name}): {definition}."},
    ]
    return json.dumps({"messages": messages}) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="the folder for train.jsonl and eval.jsonl")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    arguments = parser.parse_args()
    if not (arguments.wordnet / "data.noun").exists():
        raise SystemExit(f"{arguments.wordnet}: no WordNet here; apt-get install wordnet-base")
    held_out, train = select(candidates(arguments.wordnet))
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, words in [("train", train), ("eval", held_out)]:
        text = "".join(row(*word) for word in words)
        (arguments.output / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
