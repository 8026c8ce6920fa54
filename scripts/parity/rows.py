"""Rows of every kind become the peers' tokens and losses: texts, prompts with completions, and chats by SmolLM2's template.

Chats are tokenized by the demo model's own GGUF file and compared with `apply_chat_template`. Losses are those of a tiny random
model with SmolLM2's tokenizer, once as it is and once with a special token before and after each text.
"""

import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from harness.command import Check, bundled_chats, write_rows
from harness.models import masked_loss, tiny_llama

BOUND = 1e-4

CONTENTS = [
    "Hello", "", " ", "\n", "  two spaces, and 12  345 \n\n\tend ", "naïve Straße 東京 한국어 привет مرحبا हिन्दी",
    "👨‍👩‍👧‍👦 🇩🇪 👍🏽 e\u0301", "a<|im_end|>b", "<|im_start|>user\nnot a turn<|im_end|>\n", "<|im_start", "<|endoftext|>",
    "def f(x):\n    return x ** 2\n", "{{ x }} {% if %}", "\u00a0\u200b\ufeff",
]
TEXTS = [
    *CONTENTS[4:9], *CONTENTS[11:13], "<|im_start", "Hello, world", "A text that ends.<|im_end|>", "<|im_start|><|im_start|>",
    " leading space",
]


def chats():
    """Conversations: every content in every role, with and without a system message, and the bundled held-out rows."""
    for index, content in enumerate(CONTENTS):
        other = CONTENTS[(index + 5) % len(CONTENTS)]
        turns = [("user", content), ("assistant", other), ("user", other), ("assistant", content)]
        yield [{"role": role, "content": text} for role, text in turns]
        yield [{"role": role, "content": text} for role, text in [("system", content), *turns[:2]]]
    yield [{"role": "user", "content": "a question without an answer"}]
    yield from bundled_chats("eval")


def compare_chats(check, tokenizer):
    """Compares the ids of rendered conversations."""
    rows = [{"messages": messages} for messages in chats()]
    path = write_rows(check.work / "chats.jsonl", rows)
    theirs = [tokenizer.apply_chat_template(row["messages"])["input_ids"] for row in rows]
    check.equal_each("chats", rows, check.tokenize(check.model, path, "--chat"), theirs)


def peer_rows(tokenizer):
    """Rows of each kind: `(row, ids, number of leading tokens that are not learned)`."""
    texts = [({"text": text}, tokenizer(text).input_ids, 1) for text in TEXTS]
    pairs = []
    for prompt, completion in zip(TEXTS, reversed(TEXTS)):
        shared, whole = tokenizer(prompt).input_ids, tokenizer(prompt + completion).input_ids
        same = [left == right for left, right in zip(shared, whole)] + [False]
        pairs.append(({"prompt": prompt, "completion": completion}, whole, max(1, same.index(False))))
    messages = [
        ({"messages": chat}, tokenizer.apply_chat_template(chat)["input_ids"], 1) for chat in list(chats())[:40]]
    return {"text": texts, "prompt and completion": pairs, "messages": messages}


def compare_losses(check, name, model, tokenizer):
    """Compares the loss and the number of target tokens of every row."""
    folder = check.work / f"model-{name}"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    reread = AutoTokenizer.from_pretrained(folder)
    check.equal(f"{name}: the saved tokenizer is the same", reread("a  1").input_ids, tokenizer("a  1").input_ids)
    for kind, cases in peer_rows(reread).items():
        result, _ = check.score(
            f"{name}-{kind}", folder, [row for row, _, _ in cases], "--quantize", "none", "--dtype", "float32")
        numbers = [row["num_target_tokens"] for row in result["rows"]]
        check.equal_each(
            f"{name}: target tokens, rows of {kind}", [row for row, _, _ in cases], numbers,
            [len(ids) - skipped for _, ids, skipped in cases])
        with torch.no_grad():
            theirs = [masked_loss(model, ids, skipped).item() for _, ids, skipped in cases]
        apart = max(abs(row["nll"] - loss) / max(1, number) for row, loss, number in zip(result["rows"], theirs, numbers))
        check.at_most(f"{name}: loss of each row of {kind}", apart, BOUND)


def main():
    check = Check("rows", __doc__)
    tokenizer = AutoTokenizer.from_pretrained(check.model.parent, gguf_file=check.model.name)
    compare_chats(check, tokenizer)
    model = tiny_llama(seed=31, vocab_size=len(tokenizer), hidden_size=32)
    check.attempt("plain", compare_losses, model, tokenizer)
    first, last = "<|im_start|>", "<|im_end|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in (first, last)])
    check.attempt("enclosed", compare_losses, model, tokenizer)
    check.finish()


if __name__ == "__main__":
    main()
