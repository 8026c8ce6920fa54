"""Adapters go both ways with PEFT for every family, its base in float32 and in NF4, with every kind of tensor that LoRA trains.

Equal logits, the same tensors, nothing missing or unexpected. The peer of NF4 is bitsandbytes' double quantization.
"""

import dataclasses

from harness.adapters import Base, both_ways
from harness.command import Check
from harness.support import supported_families

EXPERTS = dict(num_experts=6, num_experts_per_tok=2)


@dataclasses.dataclass
class Family:
    """The settings of a tiny model, and what its layers are called."""

    settings: dict = dataclasses.field(default_factory=dict)
    attention: tuple = ("q_proj", "v_proj")
    feed_forward: str = "mlp.down_proj"
    embedding: str = "embed_tokens"
    norm: str = "norm"
    head: str = "lm_head"
    has_biases: bool = False
    experts: str = None  # the parameter of a block's experts to adapt

    def cases(self, quantize):
        """Options in PEFT's names, by name; what PEFT itself cannot do on a base in 4 bits is left out."""
        base = dict(r=4, lora_alpha=8, target_modules=[*self.attention, self.feed_forward])
        linears = base | dict(target_modules="all-linear")
        cases = {
            "attention and feed-forward": base,
            "all-linear, rsLoRA, patterns": linears | dict(
                use_rslora=True, rank_pattern={self.attention[0]: 7}, alpha_pattern={self.attention[-1]: 3}),
            "DoRA": base | dict(use_dora=True),
            "bias of the update": base | dict(lora_bias=True),
            "some layers": base | dict(layers_to_transform=[0, 3]),
            "norm and head whole": base | dict(modules_to_save=[self.norm, self.head]),
            "embedding and head": base | dict(target_modules=[self.embedding, self.head, self.attention[0]]),
            "rows of tokens": base | dict(trainable_token_indices={self.embedding: [1, 5, 9]}),
        }
        if self.has_biases:
            cases["all biases"] = base | dict(bias="all")
            cases["biases of adapted layers"] = base | dict(bias="lora_only")
        if self.experts and quantize == "none":
            cases["experts"] = base | dict(target_parameters=[self.experts])
        elif self.experts:
            # Over experts of bitsandbytes PEFT names adapters of experts otherwise, and cannot read them without
            # (docs/decisions/0019-experts-are-rows-of-one-weight.md); the fixtures `experts` compare their numbers.
            del cases["all-linear, rsLoRA, patterns"]
        return cases


NEOX = dict(
    attention=("query_key_value", "attention.dense"), feed_forward="mlp.dense_4h_to_h", embedding="embed_in",
    norm="final_layer_norm", has_biases=True)
FAMILIES = {
    "gemma2": Family(dict(head_dim=32, sliding_window=20, query_pre_attn_scalar=32)),
    "gemma3_text": Family(dict(head_dim=32, sliding_window=20, query_pre_attn_scalar=32)),
    "gpt2": Family(
        dict(num_key_value_heads=4), attention=("c_attn",), feed_forward="mlp.c_proj", embedding="wte", norm="ln_f", has_biases=True),
    "gpt_neox": Family(dict(num_key_value_heads=4), **NEOX),
    "granite": Family(dict(embedding_multiplier=2.0, logits_scaling=1.5, residual_multiplier=0.3, attention_multiplier=0.2)),
    "llama": Family(),
    "ministral": Family(dict(head_dim=32, sliding_window=20, layer_types=["full_attention", "sliding_attention"] * 2)),
    "mistral": Family(dict(sliding_window=20)),
    "mixtral": Family(dict(num_local_experts=5), feed_forward="o_proj", experts="experts.gate_up_proj"),
    "olmo2": Family(),
    "olmoe": Family(EXPERTS, feed_forward="o_proj", experts="experts.down_proj"),
    "phi3": Family(attention=("qkv_proj", "o_proj")),
    "qwen2": Family(has_biases=True),
    "qwen3": Family(dict(head_dim=32)),
    "qwen3_moe": Family(
        EXPERTS | dict(moe_intermediate_size=48, norm_topk_prob=True), feed_forward="o_proj", experts="experts.down_proj"),
    "smollm3": Family(),
}


def main():
    check = Check("families", __doc__)
    check.equal("families compared are those of docs/support.md", sorted(FAMILIES), supported_families())
    for name, family in FAMILIES.items():
        for quantize in ("none", "nf4"):
            cases = {f"{name}, {quantize}, {case}": options for case, options in family.cases(quantize).items()}
            check.attempt(f"{name}, {quantize}", compare, name, family, quantize, cases)
    check.finish()


def compare(check, _, name, family, quantize, cases):
    """All cases of a family on one base."""
    both_ways(check, Base.make(check, name, quantize, **family.settings), cases)


if __name__ == "__main__":
    main()
