"""One training run of either side: ours, and Hugging Face PEFT + bitsandbytes."""

import dataclasses
import json
import shutil
import statistics
import sys

from measuring import MODEL, PEFT, ROOT, VOCABULARY, WORK, run_json, run_measured

from harness.command import read_metrics, write_rows
from harness.models import dequantized_folder, random_rows

# What both sides train: the peer's script has the same.
ADAPTER = ["--quantize", "nf4", "--dtype", "bfloat16", "--lora-r", "16", "--lora-alpha", "32", "--target-modules", "all-linear"]


@dataclasses.dataclass(frozen=True)
class Case:
    """What a run trains on: `batch` rows of `length` tokens a step."""

    batch: int
    length: int
    recompute: bool = False
    threads: int = 2
    steps: int = 8

    @property
    def title(self):
        recompute = ", checkpointing" if self.recompute else ""
        return f"{self.batch} x {self.length}{recompute}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclasses.dataclass
class Measurement:
    """What one run gave; seconds count from the start of the process."""

    side: str
    tokens_per_second: float
    ready_seconds: float
    first_step_seconds: float
    peak_bytes: int
    command: list
    # Tokens a second that the machine's products allowed around it.
    limit: float = float("nan")


def peer_folder():
    """The demo model in float32 as the peer reads it."""
    return dequantized_folder(MODEL, ROOT / ".cache/parity/smollm2-float32")


def peer_run(case, *options):
    """The peer's command line, its result and its peak of memory."""
    command = [
        sys.executable, "Benchmarks/peer/hf_qlora.py", "--model", peer_folder(), "--batch", case.batch, "--length", case.length,
        "--steps", case.steps, "--threads", case.threads, *(["--recompute"] if case.recompute else []), *options]
    return command, *run_json(command)


def measure_peer(case, dtype="bfloat16"):
    """One run of the peer, computing in a dtype."""
    command, result, peak = peer_run(case, "--dtype", dtype)
    return Measurement(
        f"peer, {dtype}", result["tokens_per_second"], result["load_seconds"], result["first_step_seconds"], peak, command)


def our_command(case, data, *options, model=MODEL):
    """The command line of a run that trains."""
    return [
        PEFT, "train", "--model", model, "--data", data, "--output-dir", WORK / "ours", *ADAPTER, "--learning-rate", "2e-4",
        "--lr-scheduler-type", "constant", "--max-grad-norm", "0", "--no-shuffle", "--max-length", case.length,
        "--per-device-train-batch-size", case.batch, "--max-steps", case.steps, "--logging-steps", "1", "--threads", case.threads,
        "--json", *(["--gradient-checkpointing"] if case.recompute else []), *options]


def random_data(case, vocabulary=VOCABULARY):
    """A file of random rows for a case."""
    rows = random_rows(1, vocabulary, [case.length] * case.batch * case.steps)
    return write_rows(WORK / "rows.jsonl", rows)


def run_ours(command):
    """Runs a command line of ours; its steps' metrics, when it was ready and had done a step, and its peak of memory."""
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    seconds = {}

    def note(line, second):
        if line.startswith("{"):
            seconds.setdefault(json.loads(line)["event"], second)

    peak = run_measured(command, note)
    return read_metrics(WORK / "ours"), seconds, peak


def measure_ours(case):
    """One run of the built command; it is ready when it says that the steps follow."""
    command = our_command(case, random_data(case))
    metrics, seconds, peak = run_ours(command)
    speed = statistics.median(line["tokens_per_second"] for line in metrics[2:])
    return Measurement("ours", speed, seconds["started"], seconds["step"], peak, command)
