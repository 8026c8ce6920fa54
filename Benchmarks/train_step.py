#!/usr/bin/env python3
"""Training speed and memory of `peft train` beside Hugging Face PEFT + bitsandbytes, alternating in one run.

Peer, ours, peer, ours: QLoRA on SmolLM2-135M (NF4, double quantized, LoRA r=16 on all linears, bfloat16), batch 2 x 512 random
tokens, no activation checkpointing. The peer is measured in bfloat16 and in float32, which is its faster setting on processors
without bfloat16 products; ratios are to its better one. Writes Benchmarks/Results/<date>-<cpu>.md. Run it by `make bench` on an idle machine:
only the ratio of one run counts. Peak memory of both sides is the kernel's maximum resident set of the process. With --without-avx512
both sides are held to AVX2 by the variables of our kernels and of libtorch, oneDNN and MKL, and the peer computes in float32 alone:
oneDNN imitates bfloat16 products there, and four steps of the peer take minutes.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "parity"))

from harness.command import read_metrics, write_rows  # noqa: E402
from harness.models import dequantized_folder, random_rows  # noqa: E402

VOCABULARY = 49152

# What holds a process to AVX2; bitsandbytes has no such variable, and decodes with what it finds.
WITHOUT_AVX512 = {
    "PEFT_INSTRUCTION_SET": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


@dataclasses.dataclass
class Measurement:
    """What one run gave."""

    side: str
    tokens_per_second: float
    first_step_seconds: float
    peak_bytes: int


def run_measured(command, output, poll=lambda: None):
    """Runs a command, its standard output into a file; returns its peak resident bytes. `poll` is called every 10 ms."""
    print("+", " ".join(command), flush=True)
    with open(output, "w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            poll()
            time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"error: {' '.join(command)}: exit {process.returncode}")
    return usage.ru_maxrss * 1024


def measure_peer(arguments, dtype, folder, work):
    """One run of the peer, computing in a dtype."""
    command = [
        sys.executable, "Benchmarks/peer/hf_qlora.py", "--model", str(folder), "--batch", str(arguments.batch),
        "--length", str(arguments.length), "--steps", str(arguments.steps), "--threads", str(arguments.threads), "--dtype", dtype]
    peak = run_measured(command, work / "peer.json")
    result = json.loads((work / "peer.json").read_text())
    return Measurement(f"peer, {dtype}", result["tokens_per_second"], result["first_step_seconds"], peak), command


def our_command(name, arguments, model, data, out):
    """The command line of a run, for `train` to make or `doctor` to check."""
    return [
        str(ROOT / ".build/release/peft"), name, "--model", str(model), "--data", str(data), "--output-dir", str(out),
        "--quantize", "nf4", "--dtype", "bfloat16", "--lora-r", "16", "--lora-alpha", "32", "--target-modules", "all-linear",
        "--learning-rate", "2e-4", "--lr-scheduler-type", "constant", "--max-grad-norm", "0", "--no-shuffle",
        "--max-length", str(arguments.length), "--per-device-train-batch-size", str(arguments.batch),
        "--max-steps", str(arguments.steps), "--logging-steps", "1", "--threads", str(arguments.threads)]


def measure_doctor(arguments, model, data, work):
    """A line on `peft doctor` for the same run: all that is checked before the first step, and nothing else."""
    start = time.perf_counter()
    peak = run_measured(our_command("doctor", arguments, model, data, work / "none"), work / "doctor.log")
    return f"{time.perf_counter() - start:.1f} s from start to end, peak memory {peak / 1e9:.2f} GB"


def measure_ours(arguments, model, data, work):
    """One run of the built command; the first step is done when its line stands in metrics.jsonl."""
    out = work / "ours"
    shutil.rmtree(out, ignore_errors=True)
    command = our_command("train", arguments, model, data, out)
    start = time.perf_counter()
    first_step = []

    def look():
        metrics = out / "metrics.jsonl"
        if not first_step and metrics.exists() and '"loss"' in metrics.read_text():
            first_step.append(time.perf_counter() - start)

    peak = run_measured(command, work / "ours.log", look)
    speeds = [line["tokens_per_second"] for line in read_metrics(out)]
    return Measurement("ours", statistics.median(speeds[2:]), first_step[0], peak), command


def machine():
    """Model name of the CPU, and a line about the machine."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*:\s*(.*)", text)
    cpu = name[1] if name else platform.machine()
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    features = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{f}\b", text)]
    return cpu, f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {' '.join(features)}"


def result_path(name=""):
    """The result file of today on this machine."""
    slug = re.sub(r"\W+", "-", re.sub(r"\(\w+\)", "", machine()[0]).lower()).strip("-")
    folder = ROOT / "Benchmarks" / "Results"
    folder.mkdir(exist_ok=True)
    return folder / f"{datetime.date.today()}-{name}{slug}.md"


def report(arguments, measurements, commands, doctor):
    """The text of the result file."""
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("torch", "transformers", "peft", "bitsandbytes"))
    version = subprocess.run([ROOT / ".build/release/peft", "--version"], capture_output=True, text=True, check=True).stdout
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout
    by_side = {side: [m for m in measurements if m.side == side] for side in sorted({m.side for m in measurements})}
    medians = {
        side: [statistics.median(getattr(m, key) for m in rows) for key in ("tokens_per_second", "first_step_seconds", "peak_bytes")]
        for side, rows in by_side.items()}
    row = "| {} | {:.0f} | {:.1f} | {:.2f} |".format
    table = [row(m.side, m.tokens_per_second, m.first_step_seconds, m.peak_bytes / 1e9) for m in measurements]
    table += [row(f"**median, {side}**", a, b, c / 1e9) for side, (a, b, c) in medians.items()]
    best = max((side for side in medians if side != "ours"), key=lambda side: medians[side][0])
    speed, memory = (medians["ours"][i] / medians[best][i] for i in (0, 2))
    limits = ["- Both sides with " + " ".join(f"{k}={v}" for k, v in WITHOUT_AVX512.items())] if arguments.without_avx512 else []
    shown = "\n".join(" ".join(c).replace(sys.executable, "python").replace(str(ROOT) + "/", "") for c in commands)
    return "\n".join([
        f"# QLoRA training step, SmolLM2-135M, batch {arguments.batch} x {arguments.length}", "",
        f"- Machine: {machine()[1]}; load average at the start {arguments.load:.2f}",
        f"- Ours: {', '.join(version.split(chr(10))).strip(', ')}, revision {revision.strip()}",
        f"- Peer: {versions}", *limits, f"- {arguments.steps} steps a run, speeds are medians of the steps after the second",
        f"- `peft doctor` on the same run, reading the model included: {doctor}", "",
        "| run, in this order | tokens/s | first step done, s after start | peak memory, GB |", "|---|---|---|---|", *table, "",
        f"Ours / {best}: **{speed:.2f}** times the tokens/s, {memory:.2f} times the memory.", "", "```", shown, "```", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--without-avx512", action="store_true", help="hold both sides to AVX2")
    arguments = parser.parse_args()
    if arguments.without_avx512:
        os.environ.update(WITHOUT_AVX512)
    arguments.load = os.getloadavg()[0]
    work = ROOT / ".cache" / "bench"
    work.mkdir(parents=True, exist_ok=True)
    model = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = dequantized_folder(model, ROOT / ".cache/parity/smollm2-float32")
    rows = random_rows(1, VOCABULARY, [arguments.length] * arguments.batch * arguments.steps)
    data = write_rows(work / "rows.jsonl", rows)
    measurements, commands = [], []
    for _ in range(arguments.pairs):
        commands = []
        for dtype in ("float32",) if arguments.without_avx512 else ("bfloat16", "float32"):
            for measurement, command in (
                    measure_peer(arguments, dtype, folder, work), measure_ours(arguments, model, data, work)):
                measurements.append(measurement)
                commands.append(command)
    commands = commands[:3]  # the last is the second again
    path = result_path("without-avx512-" if arguments.without_avx512 else "")
    doctor = measure_doctor(arguments, model, data, work)
    path.write_text(report(arguments, measurements, commands, doctor))
    print(path.read_text())
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
