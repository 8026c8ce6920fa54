"""The peers' side of training: transformers + bitsandbytes for the base, PEFT for the adapter, torch's AdamW."""

import dataclasses
import math

import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, get_scheduler

from harness.models import row_loss


NF4 = dict(bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
FP4 = dict(bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False)


def load_base(folder, quantize):
    """The model of a Hugging Face folder with float32 compute; `quantize`: how its linears are quantized, if at all.

    On processors with AVX512-BF16, bitsandbytes repacks 4-bit weights in evaluation mode, rounds their constants to
    bfloat16 and computes in bfloat16, whatever the compute dtype is. Its generic path, which float32 was asked for, is taken.
    """
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **quantize) if quantize else None
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=config, device_map={"": "cpu"}
    ).eval()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


@dataclasses.dataclass
class Schedule:
    """The hyper-parameters of a short run, for both sides."""

    steps: int = 10
    batch: int = 2
    accumulation: int = 2
    learning_rate: float = 1e-3
    warmup: int = 3
    scheduler: str = "linear"
    weight_decay: float = 0.05
    max_grad_norm: float = 1.0  # 0: gradients are not clipped

    @property
    def num_rows(self):
        """Rows that the run takes."""
        return self.steps * self.batch * self.accumulation

    def flags(self):
        """The same as flags of `peft train`."""
        return [
            "--max-steps", self.steps, "--per-device-train-batch-size", self.batch,
            "--gradient-accumulation-steps", self.accumulation, "--learning-rate", self.learning_rate,
            "--warmup-steps", self.warmup, "--lr-scheduler-type", self.scheduler,
            "--weight-decay", self.weight_decay, "--max-grad-norm", self.max_grad_norm,
            "--logging-steps", 1, "--no-shuffle",
        ]


def train(model, rows, schedule):
    """Trains `model`'s adapter on rows in order; returns a dict of loss, grad_norm and learning_rate per step.

    The loss of a step is the sum over its rows' target tokens divided by their number, whatever the micro-batches are.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    scheduler = get_scheduler(
        schedule.scheduler, optimizer, num_warmup_steps=schedule.warmup, num_training_steps=schedule.steps)
    global_batch = schedule.batch * schedule.accumulation
    metrics = []
    for start in range(0, schedule.num_rows, global_batch):
        step_rows = rows[start : start + global_batch]
        num_targets = sum(len(row) - 1 for row in step_rows)
        loss = 0.0
        for row in step_rows:
            share = row_loss(model, row) / num_targets
            share.backward()
            loss += share.item()
        norm = torch.nn.utils.clip_grad_norm_(trainable, schedule.max_grad_norm or math.inf).item()
        metrics.append(dict(loss=loss, grad_norm=norm, learning_rate=optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return metrics
