"""One adapter on a tiny model, made by PEFT and read here, trained here and read by PEFT."""

import dataclasses
import json
import pathlib
import warnings

import numpy
import torch
from bitsandbytes.nn.parametrize import replace_parameter_4bit
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file

from harness.command import write_rows
from harness.models import peer_logits, random_rows, tiny_model
from harness.peers import NF4, load_base

BOUND = 1e-4


def run_options(options):
    """Options of PEFT as the configuration of a run here has them."""
    options = dict(options)
    run = {"lora_r": options.pop("r")}
    kasa = options.pop("kasa_config", None)
    if kasa:
        run |= dict(use_kasa=True, kasa_beta=kasa.beta, kasa_gamma=kasa.gamma)
    return run | options


@dataclasses.dataclass
class Base:
    """A tiny model in a folder, how both sides read it, rows, and the peer's logits of them without an adapter."""

    folder: pathlib.Path
    quantize: str  # `none` or `nf4`
    rows: list
    plain: list = None

    @classmethod
    def make(cls, check, family, quantize="none", **settings):
        """A random model of a family, written to a folder of the check."""
        folder = check.work / family
        if not folder.exists():
            tiny_model(family, seed=23, num_hidden_layers=4, **settings).save_pretrained(folder)
        base = cls(folder, quantize, [])
        model = base.load()
        base.rows = random_rows(29, model.config.vocab_size, [9, 24, 40, 61])
        base.plain = peer_logits(model, base.rows)
        return base

    def load(self):
        """The peer's model, computing in float32; with NF4 its experts are quantized too, which transformers leaves alone."""
        if self.quantize == "none":
            return load_base(self.folder, None)
        model = load_base(self.folder, NF4)
        for module in list(model.modules()):
            for name in [name for name, value in module.named_parameters(recurse=False) if value.ndim == 3]:
                replace_parameter_4bit(module, name, compress_statistics=True, quant_type="nf4", blocksize=64)
        return model

    def invoking(self, tokens):
        """The same with tokens that activate adapters in the middle of each row."""
        rows = [row[: len(row) // 2] + tokens + row[len(row) // 2 :] for row in self.rows]
        return dataclasses.replace(self, rows=rows, plain=peer_logits(self.load(), rows))

    def flags(self):
        """The same as flags of `peft`."""
        return ["--quantize", self.quantize, "--dtype", "float32"]


def distance(ours, theirs):
    """The largest difference of two lists of logits."""
    return max(float(numpy.abs(a - b).max()) for a, b in zip(ours, theirs))


def theirs_loads_here(check, name, label, base, options):
    """An adapter that PEFT made, all that it trains moved at random, scored by PEFT and here."""
    adapter = check.work / f"{label}-theirs"
    torch.manual_seed(7)
    model = get_peft_model(base.load(), LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(adapter)
    theirs = peer_logits(model, base.rows)
    _, ours = check.score(f"{label}-theirs", base.folder, base.rows, "--adapter", adapter, *base.flags(), logits=True)
    check.at_least(f"{name}: PEFT's adapter changes the logits by", distance(theirs, base.plain), 0.01)
    check.at_most(f"{name}: PEFT's adapter, logits here", distance(ours, theirs), BOUND)


def train_here(check, label, base, options):
    """An adapter of a run of two steps here, and its logits."""
    adapter = check.work / f"{label}-ours"
    config = run_options(options) | dict(
        model=str(base.folder), data=str(write_rows(check.work / "train.jsonl", base.rows)), output_dir=str(adapter),
        quantize=base.quantize, dtype="float32", max_steps=2, learning_rate=0.01, lr_scheduler_type="constant",
        per_device_train_batch_size=2, logging_steps=1)
    path = check.work / f"{label}.json"
    path.write_text(json.dumps(config))
    check.run("train", "--config", path)
    _, ours = check.score(f"{label}-ours", base.folder, base.rows, "--adapter", adapter, *base.flags(), logits=True)
    return adapter, ours


def exported_loads_there(check, name, label, base, options):
    """An adapter of a run of two steps here, written as the plain LoRA that PEFT loads on the base as it is."""
    adapter, ours = train_here(check, label, base, options)
    plain = check.work / f"{label}-plain"
    check.run("export", "--adapter", adapter, "--output", plain, "--format", "peft-lora")
    model = PeftModel.from_pretrained(base.load(), plain).eval()
    check.at_least(f"{name}: our adapter changes the logits by", distance(ours, base.plain), 0.01)
    check.at_most(f"{name}: our adapter as a plain one, logits in PEFT", distance(peer_logits(model, base.rows), ours), BOUND)


def ours_loads_there(check, name, label, base, options):
    """An adapter of a run of two steps here, scored here and by PEFT; the file holds what PEFT's model trains, no more, no less.

    (PEFT would store the frozen weight of an adapted output head, too, which it reads from the base model as well.)
    """
    adapter, ours = train_here(check, label, base, options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base.load(), adapter).eval()
    complaints = [str(warning.message) for warning in caught if "keys" in str(warning.message)]
    if model.peft_config["default"].target_parameters:
        # PEFT applies patterns to parameters, too, but looks only among modules for what they match; shapes and logits tell.
        complaints = [text for text in complaints if "did not match any targeted module" not in text]
    check.equal(f"{name}: PEFT's complaints about keys of our adapter", complaints, [])
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    expected = {key: list(tensor.shape) for key, tensor in state.items()}
    written = {key: list(tensor.shape) for key, tensor in load_file(adapter / "adapter_model.safetensors").items()}
    check.equal(f"{name}: tensors of our adapter", written, expected)
    check.at_least(f"{name}: our adapter changes the logits by", distance(ours, base.plain), 0.01)
    check.at_most(f"{name}: our adapter, logits in PEFT", distance(peer_logits(model, base.rows), ours), BOUND)


def both_ways(check, base, cases, comparisons=(theirs_loads_here, ours_loads_there)):
    """Compares the adapters of all cases, options by name, on a base."""
    for name, options in cases.items():
        label = "".join(c if c.isalnum() else "-" for c in name)
        for compare in comparisons:
            check.attempt(name, compare, label, base, options)
