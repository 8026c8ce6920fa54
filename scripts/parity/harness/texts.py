"""Text of many kinds for tokenizers, in lines: sources, random characters of all scripts, words and special tokens stirred.

Characters are those that both regular expression engines know: Debian's Oniguruma has the classes of Unicode 14, as Python 3.11's
`unicodedata`, the wheel of `tokenizers` newer ones.
"""

import pathlib
import sysconfig
import unicodedata

WORDS = [
    "user", "assistant", "Hello", "don't", "DON'T", "it's", "we'll", "naïve", "Straße", "东京", "こんにちは", "한국어", "привет", "مرحبا", "हिन्दी",
    "12", "3.14", "0x1F", "2024-11-05", "1,000,000", "½", "²³", "Ⅷ", "٣٤", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "e\u0301", "é", "\u0301", "ﬁ", "x=1;", "{\"a\": [1, 2]}", "</p>",
    "->", "!=", "...", "—", "«»", "''", "\\n", "$x^2$", "https://example.org/a?b=1#c", "snake_case_name", "CamelCaseName", "_", "'s", "'S", "’s",
]
SPACES = [" ", "  ", "   ", "\t", " \t ", "\r", "\u00a0", "\u3000", "\u2003 ", "\u200b", "\u2028", "\x0b", "\x0c", "\x85", "\x1c", "\x00", ""]


def source_lines(num_bytes):
    """Lines of the standard library's sources."""
    size = 0
    for path in sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts or "dist-packages" in path.parts:
            continue
        for line in path.read_bytes().decode(errors="ignore").split("\n"):
            size += len(line.encode()) + 1
            if size > num_bytes:
                return
            yield line


def soup_lines(rng, num_bytes):
    """Lines of random characters, in runs of one neighbourhood, since random neighbours hardly ever form words."""
    known = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn" and c != 0x0A]
    size = 0
    while size < num_bytes:
        line = ""
        for _ in range(rng.randint(1, 12)):
            start = rng.choice([rng.randrange(len(known)), rng.randrange(4096), rng.randrange(128)])
            line += "".join(chr(known[min(start + rng.randrange(24), len(known) - 1)]) for _ in range(rng.randint(1, 8)))
            line += rng.choice(SPACES)
        size += len(line.encode()) + 1
        yield line


def stirred_lines(rng, special, num_bytes):
    """Lines of words, white space and special tokens, whole and broken."""
    size = 0
    while size < num_bytes:
        line = ""
        for _ in range(rng.randint(1, 30)):
            kind = rng.random()
            if kind < 0.12 and special:
                token = rng.choice(special)
                line += token if rng.random() < 0.7 else token[: rng.randrange(len(token))]
            else:
                line += rng.choice(WORDS)
            line += rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 5])
        size += len(line.encode()) + 1
        yield line
