#!/usr/bin/env bash
# Fine-tunes SmolLM2-135M in 4 bits on WordNet definitions, and shows held-out loss and three answers before and after.
# Called by make demo, which builds the command and fetches the model. Takes about five minutes on two cores.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

peft=.build/release/peft
config=Examples/wordnet/demo.yaml
held_out=Examples/wordnet/eval.jsonl
model=.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
adapter=demo-output

# The text of role $1 in the first three held-out rows, a line each.
held_out_texts() { head -3 "$held_out" | sed "s/.*\"role\": \"$1\", \"content\": \"\([^\"]*\)\".*/\1/"; }

# The model's answers to the three prompts; further arguments go to `peft generate`.
answers() {
    local prompt answer
    held_out_texts user | while IFS= read -r prompt; do
        answer=$("$peft" generate --model "$model" --quantize nf4 --chat --prompt "$prompt" --max-new-tokens 48 "$@" </dev/null)
        printf '  %s\n    %s\n' "$prompt" "${answer//$'\n'/ }"
    done
}

# Held-out losses as metrics.jsonl has them, one a line.
held_out_losses() { sed -n 's/.*"eval_loss" *: *\([-+.0-9eE]*\).*/\1/p' "$adapter/metrics.jsonl"; }

"$peft" --version
if [ -e "$adapter" ]; then
    say "removing $adapter of an earlier run"
    rm -rf "$adapter"
fi
say "three answers before training"
answers
say "training: peft train --config $config"
"$peft" train --config "$config"
say "three answers after training"
answers --adapter "$adapter"
say "what WordNet says"
held_out_texts assistant | sed 's/^/    /'
say "held-out loss, from $adapter/metrics.jsonl"
printf '  before %s\n  after  %s\n' "$(held_out_losses | sed -n 1p)" "$(held_out_losses | sed -n '$p')"
say "the adapter is in $adapter (adapter_config.json, adapter_model.safetensors); Hugging Face PEFT loads it too"
