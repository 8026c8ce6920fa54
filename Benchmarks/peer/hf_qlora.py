"""One QLoRA run of Hugging Face PEFT + bitsandbytes: the peer of the scripts beside this folder.

NF4 with double quantization, LoRA of rank 16 on all linears, bfloat16 autocast, AdamW. Prints one JSON line: tokens per
second (median over the steps after the second), rows per second (all of these steps), seconds to load, seconds from start to the end of
the first step, first and last loss. The tokens are random, or those of `--rows`: JSON lines of `tokens` and `num_given`, how many of the
first are not learned; a batch is padded to its longest row. `--score` runs forward only. `--recompute` turns activation checkpointing on,
`--plain` leaves out PEFT's `prepare_model_for_kbit_training`. `--sharded`, under torchrun, divides the model by FSDP with PEFT's wrapping
policy; its flat parameters need one dtype, so the adapter has that of the computation then.
"""

import time

START = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training  # noqa: E402
from peft.utils.other import fsdp_auto_wrap_policy  # noqa: E402
from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: E402
from transformers import AutoModelForCausalLM, BitsAndBytesConfig  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a Hugging Face folder")
    parser.add_argument("--batch", type=int, default=2, help="rows a step")
    parser.add_argument("--length", type=int, default=512, help="tokens a row")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="of the computation")
    parser.add_argument("--rows", help="a file of rows instead of random tokens")
    parser.add_argument("--score", action="store_true", help="losses only")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--sharded", action="store_true", help="over the processes of torchrun; implies --plain")
    return parser.parse_args()


def load(arguments):
    """The quantized base with a fresh adapter, ready to train."""
    dtype = getattr(torch, arguments.dtype)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype, bnb_4bit_quant_storage=dtype)
    model = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=dtype, quantization_config=quantization, device_map={"": "cpu"},
        attn_implementation="sdpa")
    model.config.use_cache = False
    if not arguments.plain and not arguments.sharded:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=arguments.recompute, gradient_checkpointing_kwargs={"use_reentrant": False})
    elif arguments.recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora).train()
    return shard(model, dtype) if arguments.sharded else model


def shard(model, dtype):
    """The model over the processes of torchrun, a decoder block and each adapter a unit."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return FullyShardedDataParallel(
        model, auto_wrap_policy=fsdp_auto_wrap_policy(model), use_orig_params=False, device_id=torch.device("cpu")).train()


def batches(arguments, vocabulary, rank):
    """The steps' batches, as arguments of the model."""
    if arguments.rows:
        with open(arguments.rows) as stream:
            rows = [json.loads(line) for line in stream]
        for step in range(arguments.steps):
            yield padded([rows[(step * arguments.batch + i) % len(rows)] for i in range(arguments.batch)])
        return
    generator = torch.Generator().manual_seed(1 + rank)
    for _ in range(arguments.steps):
        ids = torch.randint(0, vocabulary, (arguments.batch, arguments.length), generator=generator)
        yield dict(input_ids=ids, labels=ids)


def padded(rows):
    """A batch of rows, padded at the end to the longest; neither padding nor what is given has a loss."""
    length = max(len(row["tokens"]) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        tokens, given = torch.tensor(row["tokens"]), row["num_given"]
        ids[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = 1
        labels[i, given : len(tokens)] = tokens[given:]
    return dict(input_ids=ids, labels=labels, attention_mask=mask)


def run_step(arguments, model, optimizer, batch):
    """The loss of a batch; trains on it unless only scores are asked for."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.dtype == "bfloat16"), torch.set_grad_enabled(not arguments.score):
        loss = model(**batch).loss
    if not arguments.score:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if arguments.sharded:
        torch.distributed.init_process_group("gloo")
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    model = load(arguments)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    loaded = time.perf_counter()
    seconds, num_tokens, losses = [], [], []
    for step, batch in enumerate(batches(arguments, model.config.vocab_size, rank)):
        start = time.perf_counter()
        losses.append(run_step(arguments, model, optimizer, batch))
        seconds.append(time.perf_counter() - start)
        num_tokens.append(batch["attention_mask"].sum().item() if arguments.rows else batch["input_ids"].numel())
        if step == 0:
            first_step_done = time.perf_counter() - START
    if rank > 0:
        return
    speeds = [tokens / time for tokens, time in zip(num_tokens[2:], seconds[2:])]
    print(json.dumps(dict(
        tokens_per_second=size * statistics.median(speeds),
        rows_per_second=size * arguments.batch * len(speeds) / sum(seconds[2:]),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, load_seconds=loaded - START,
        first_step_seconds=first_step_done, losses=[losses[0], losses[-1]])))


if __name__ == "__main__":
    main()
