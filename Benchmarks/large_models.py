#!/usr/bin/env python3
"""What random models of 1.1B and 7B parameters take of memory: divided over processes, offloaded, and beside their plans.

Every run is `peft train` (NF4, double quantized, LoRA r=16 on all linears, bfloat16). Memory of a loaded base is read from the processes when
they say that they have it; peaks are what rank 0 says, and the kernel's of the process that took most. Writes Benchmarks/Results/<date>-memory-<cpu>.md. Speed is
not measured, so the machine need not be idle. With `--with-7b` it takes 14 GB of disk.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import time

from measuring import MODEL, PEFT, ROOT, VOCABULARY, WORK, heading, run_measured, shown, write_result
from shapes import SHAPES, random_model
from sides import Case, our_command, random_data


@dataclasses.dataclass
class Run:
    """What a run said of itself, and what the kernel says of its processes."""

    title: str
    command: list
    loaded: dict
    finished: dict
    # Of each process, once all of them have the base.
    held_bytes: list
    read_bytes: list
    peak_bytes: int


def processes_that_train():
    """The folders in /proc of the command's processes but their launcher."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            is_ours = (folder / "exe").resolve() == PEFT.resolve()
            word = (folder / "cmdline").read_bytes().split(b"\0")[1:2]
        except OSError:
            continue  # It has ended.
        if is_ours and word == [b"train"]:
            yield folder


def values(folders, path, name):
    """A number of a file of `name: number` lines in each process's folder, in bytes; none at all if one has ended."""
    found = []
    for folder in folders:
        try:
            lines = (folder / path).read_text().splitlines()
        except OSError:
            return []
        # A process that has ended and was not waited for has a file without memory.
        found += [int(line.split()[1]) * (1024 if line.endswith("kB") else 1) for line in lines if line.startswith(name + ":")]
    return found if len(found) == len(folders) else []


def drop_from_page_cache(folder):
    """Makes the next reader of a model's files read them from the disk."""
    for path in folder.glob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def train(title, case, model, processes=1, *options):
    """Trains a case in so many processes, which read the model from the disk."""
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    vocabulary = VOCABULARY if model == MODEL else SHAPES[model.name]["vocab_size"]
    if model != MODEL:
        drop_from_page_cache(model)
    share = dataclasses.replace(case, batch=max(1, case.batch // processes), threads=max(1, 2 // processes))
    rows = random_data(dataclasses.replace(share, batch=share.batch * processes), vocabulary)
    command = our_command(share, rows, *options, model=model)
    if processes > 1:
        command = [PEFT, "launch", "--nproc", processes, "--", *command[1:]]
    events, held, read = {}, [], []

    def note(line, _):
        if "{" not in line:
            return
        event = json.loads(line[line.index("{"):])
        events[event["event"]] = event
        if event["event"] != "loaded":
            return
        folders = list(processes_that_train())
        read.extend(values(folders, "io", "read_bytes"))
        # What the last tensors' quantization freed goes back to the system within a moment.
        samples = []
        while len(samples) < 10 and (sample := values(folders, "status", "RssAnon")):
            samples.append(sample)
            time.sleep(0.03)
        held.extend(min(column) for column in zip(*samples))

    peak = run_measured(command, note)
    assert len(held) == processes, f"{len(held)} processes were found, not {processes}"
    run = Run(title, command, events["loaded"], events["finished"], held, read, peak)
    print(f"{title}: {run.finished['planned_memory_bytes'] / 1e9:.2f} GB planned, {run.finished['peak_memory_bytes'] / 1e9:.2f} GB taken")
    return run


def trains_within(kilobytes, case, model, *options):
    """Whether a run ends well that may not have more than so many kB of memory of its own; its last line of output."""
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    command = our_command(case, random_data(case, SHAPES[model.name]["vocab_size"]), *options, model=model)
    limited = ["bash", "-c", f'ulimit -d {kilobytes}; exec "$@"', "bash", *map(str, command)]
    print("+", shown(limited), flush=True)
    result = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    return result.returncode == 0, (result.stdout if result.returncode == 0 else result.stderr).splitlines()[-1]


def report_division(runs, nothing):
    """The table of one model over several numbers of processes."""
    loaded, shape = runs[0].loaded, SHAPES["llama-1.1b"]
    base, adapter = loaded["weight_size_bytes"], 4 * loaded["num_trainable_parameters"]
    mapped = 2 * 2 * shape["vocab_size"] * shape["hidden_size"]
    own = nothing.held_bytes[0]
    lines = [
        f"## A base of {loaded['num_parameters'] / 1e9:.2f}B parameters, loaded", "",
        f"It has {base / 1e6:.0f} MB, {mapped / 1e6:.0f} MB of it embedding and head in bfloat16, which one process leaves in the mapped file. "
        f"A process without a model holds {own / 1e6:.0f} MB, the adapter, not divided yet, {adapter / 1e6:.0f} MB.", "",
        "| processes | each holds beyond these, MB | its part of the base, MB | elements read by all / of the base | read from the disk by all, GB |",
        "|---|---|---|---|---|"]
    for run in runs:
        count = len(run.held_bytes)
        lines.append("| {} | {} | {:.0f} | {:.4f} | {:.2f} |".format(
            count, ", ".join(f"{(held - own - adapter) / 1e6:.0f}" for held in run.held_bytes),
            (base / count if count > 1 else base - mapped) / 1e6,
            run.loaded["num_elements_read"] / run.loaded["num_parameters"], sum(run.read_bytes) / 1e9))
    return lines


def report_plans(runs):
    """The table of planned and measured peaks."""
    row = "| {} | {:.2f} | {:.2f} | {:+.1f} % | {:.2f} |".format
    return [
        "## Planned and measured peaks", "", "| run | planned, GB | measured by the process, GB | | largest process, GB |",
        "|---|---|---|---|---|",
        *(row(
            run.title, run.finished["planned_memory_bytes"] / 1e9, run.finished["peak_memory_bytes"] / 1e9,
            100 * (run.finished["peak_memory_bytes"] / run.finished["planned_memory_bytes"] - 1), run.peak_bytes / 1e9)
          for run in runs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--with-7b", action="store_true", help="measure the model that takes 14 GB of disk, too")
    parser.add_argument("--limit", type=int, default=640_000, help="kB that the offloaded 1.1B model may take")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    small, nothing = random_model("llama-1.1b"), random_model("llama-nothing")
    short = Case(4, 16, steps=1)
    empty = train("nothing", short, nothing)
    divided = [train(f"1.1B, 4 x 16, {n} process{'es' if n > 1 else ''}", short, small, n) for n in (1, 2, 4)]
    case = Case(1, 512, recompute=True, steps=2)
    pair = dataclasses.replace(case, batch=2)
    limits = [(options, trains_within(arguments.limit, case, small, *options)) for options in ([], ["--offload", "base"])]
    plans = divided + [
        train("SmolLM2-135M, 2 x 512", Case(2, 512, steps=2), MODEL),
        train("SmolLM2-135M, 4 x 256, checkpointing, offloaded optimizer", Case(4, 256, True, steps=2), MODEL, 1, "--offload", "optimizer"),
        train("SmolLM2-135M, 2 micro-batches of 1 x 256", Case(1, 256, steps=4), MODEL, 1, "--gradient-accumulation-steps", "2"),
        train("1.1B, 1 x 512, checkpointing", case, small),
        train("1.1B, 2 x 512, checkpointing, offloaded base", pair, small, 1, "--offload", "base"),
        train("1.1B, 2 x 512, checkpointing, 2 processes", pair, small, 2)]
    if arguments.with_7b:
        large = random_model("llama-7b")
        plans += [
            train("7B, 1 x 512, checkpointing", case, large),
            train("7B, 2 x 512, checkpointing, 2 processes", pair, large, 2)]
    write_result("memory-", [
        *heading("Memory of large models", load, peers=()), *report_division(divided, empty), "", *report_plans(plans), "",
        f"## A base larger than the process's memory: 1.1B, 1 x 512, `ulimit -d {arguments.limit}` (kB)", "",
        *(f"- {' '.join(options) or 'without offloading'}: {'trains' if good else 'ends'}: `{line}`" for options, (good, line) in limits),
        "", "## Commands", "", "```", *(shown(run.command) for run in [empty, *plans]), "```"])


if __name__ == "__main__":
    main()
