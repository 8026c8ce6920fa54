"""The models of the parity checks: tiny random ones, and the demo model's GGUF file as a folder in float32."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM


def tiny_llama(seed, **options):
    """A random Llama in float32 whose logits are of order 1, with norms that multiply by 0.5 to 1.5."""
    return tiny_model("llama", seed, **options)


def tiny_model(family, seed, **options):
    """The same of another family, by its model type."""
    torch.manual_seed(seed)
    defaults = dict(
        vocab_size=97, hidden_size=64, intermediate_size=112, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(defaults | options))).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5).sub_(1.0 if family.startswith("gemma") else 0.0)
    return model


def random_rows(seed, vocabulary, lengths):
    """Rows of random token ids with these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def dequantized_folder(gguf, folder):
    """Leaves a GGUF file, dequantized in float32 by transformers and gguf, as a Hugging Face folder, made once; returns it."""
    if not (folder / "complete").exists():
        source = dict(pretrained_model_name_or_path=str(gguf.parent), gguf_file=gguf.name)
        read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        # A model that was read from GGUF counts as quantized and cannot be saved: its weights go into a plain one.
        del read.config.quantization_config
        model = LlamaForCausalLM(read.config).float()
        model.load_state_dict(read.state_dict())
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(**source).save_pretrained(folder)
        (folder / "complete").touch()
    return folder


@torch.no_grad()
def peer_logits(model, rows):
    """The peer's logits of each row, `[tokens, vocabulary]` in float32."""
    return [model(input_ids=torch.tensor([row])).logits[0].float().numpy() for row in rows]


def row_loss(model, row):
    """The sum of the row's token losses, each predicted from the tokens before it; differentiable."""
    return masked_loss(model, row, 1)


def masked_loss(model, row, num_given):
    """As `row_loss`, but the first tokens, at least one, are given and not learned."""
    tokens = torch.tensor([row])
    logits = model(input_ids=tokens).logits[0, num_given - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, tokens[0, num_given:], reduction="sum")
