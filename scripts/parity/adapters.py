"""Adapters go both ways with PEFT, for every way to select layers and every option of LoRA.

Equal logits, the same tensors, nothing missing or unexpected.
"""

from peft import KasaConfig

from harness.adapters import Base, both_ways, exported_loads_there
from harness.command import Check

BASE = dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])

# name: options in PEFT's names
CASES = {
    "list": BASE,
    "list of one path": BASE | dict(target_modules=["layers.1.mlp.down_proj"]),
    "regex": BASE | dict(target_modules=r".*\.(self_attn\.o_proj|mlp\.(up|gate)_proj)"),
    "all-linear": BASE | dict(target_modules="all-linear"),
    "all-linear, excluded list": BASE | dict(target_modules="all-linear", exclude_modules=["k_proj", "down_proj"]),
    "all-linear, excluded regex": BASE | dict(target_modules="all-linear", exclude_modules=r".*layers\.[02]\.self_attn.*"),
    "layers to transform": BASE | dict(layers_to_transform=[0, 3]),
    "rank pattern": BASE | dict(rank_pattern={"v_proj": 7, "layers.2.self_attn.q_proj": 1}),
    "alpha pattern": BASE | dict(alpha_pattern={"q_proj": 3, r"layers\.[13]\.self_attn\.v_proj": 20}),
    "rank and alpha pattern, rsLoRA": BASE | dict(
        rank_pattern={"v_proj": 9}, alpha_pattern={"v_proj": 5}, use_rslora=True),
    "rsLoRA": BASE | dict(use_rslora=True),
    "dropout": BASE | dict(lora_dropout=0.3),
    "output head": BASE | dict(target_modules=["q_proj", "lm_head"]),
    "embedding": BASE | dict(target_modules=["q_proj", "embed_tokens"]),
    "DoRA": BASE | dict(use_dora=True),
    "bias of the update": BASE | dict(lora_bias=True),
    "modules to save": BASE | dict(modules_to_save=["norm", "lm_head"]),
    "rows of tokens": BASE | dict(trainable_token_indices=[1, 5, 9]),
    "orthogonal start": BASE | dict(init_lora_weights="orthogonal"),
    "PiSSA": BASE | dict(init_lora_weights="pissa"),
    "PiSSA, rsLoRA and a rank pattern": BASE | dict(
        init_lora_weights="pissa", use_rslora=True, rank_pattern={"v_proj": 7}),
    "OLoRA": BASE | dict(init_lora_weights="olora", target_modules=["k_proj", "down_proj"]),
    "EVA": BASE | dict(init_lora_weights="eva", target_modules=["q_proj", "k_proj", "up_proj", "down_proj"]),
    "KaSA": BASE | dict(kasa_config=KasaConfig(beta=0.01, gamma=0.1)),
    "KaSA and a rank pattern": BASE | dict(
        kasa_config=KasaConfig(), target_modules=["o_proj", "down_proj"], rank_pattern={"down_proj": 7}),
    "copies of blocks": BASE | dict(layer_replication=[[0, 3], [1, 4], [3, 4]]),
    "copies of blocks, some adapted": BASE | dict(
        layer_replication=[[0, 4], [0, 4]], layers_to_transform=[1, 6], modules_to_save=["layers.7.input_layernorm"]),
}
# PEFT takes what these began with from the base no more, or not at all.
EXPORTED_CASES = {
    "CorDA": BASE | dict(init_lora_weights="corda"),
    "CorDA of what does least": BASE | dict(init_lora_weights="corda", corda_method="kpm", target_modules=["up_proj"]),
    "LoRA-GA": BASE | dict(init_lora_weights="lora_ga", use_rslora=True),
    "PiSSA of four iterations": BASE | dict(init_lora_weights="pissa_niter_4"),
    "KaSA as a plain adapter": BASE | dict(kasa_config=KasaConfig()),
}
INVOCATION = [7, 3, 7]
# On rows with these tokens in their middle.
ACTIVATED_CASES = {
    "activated": BASE | dict(alora_invocation_tokens=INVOCATION),
    "activated, all-linear": BASE | dict(
        alora_invocation_tokens=INVOCATION, target_modules="all-linear", lora_dropout=0.2, use_rslora=True),
}
EXPERTS = dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=48, mlp_only_layers=[2], norm_topk_prob=True)
# Adapters of experts by the names of their tensors, and by the names that their linears had in transformers 4.
EXPERT_CASES = {
    "parameters of experts": BASE | dict(
        target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        rank_pattern={"layers.1.mlp.experts.down_proj": 2}),
    "one parameter, router and linears": BASE | dict(target_parameters=["experts.down_proj", "gate.weight"]),
    "modules of experts": BASE | dict(target_modules=["gate_proj", "up_proj", "down_proj", "o_proj"], use_rslora=True),
}


def main():
    check = Check("adapters", __doc__)
    base = Base.make(check, "llama")
    both_ways(check, base, CASES)
    both_ways(check, base, EXPORTED_CASES, comparisons=[exported_loads_there])
    both_ways(check, base.invoking(INVOCATION), ACTIVATED_CASES)
    both_ways(check, Base.make(check, "qwen3_moe", **EXPERTS), EXPERT_CASES)
    check.finish()


if __name__ == "__main__":
    main()
