"""Random models of the shapes of public ones, to measure what a model of that size takes."""

import json
import subprocess

from measuring import PEFT, WORK

LLAMA = dict(
    model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=32000, rms_norm_eps=1e-5, hidden_act="silu",
    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
SHAPES = {
    # TinyLlama-1.1B
    "llama-1.1b": dict(
        LLAMA, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
        max_position_embeddings=2048),
    # Llama-2-7B
    "llama-7b": dict(
        LLAMA, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
        max_position_embeddings=4096),
    # Next to nothing: what a process takes without a model.
    "llama-nothing": dict(
        LLAMA, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        max_position_embeddings=2048),
}


def random_model(name):
    """The folder of a model of that shape in bfloat16; made once."""
    folder, config = WORK / name, WORK / f"{name}.json"
    if not folder.exists():
        config.write_text(json.dumps(SHAPES[name]))
        subprocess.run([PEFT, "init-model", config, "--output-dir", folder, "--seed", "1"], check=True)
    return folder
