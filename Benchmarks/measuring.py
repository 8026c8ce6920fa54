"""Runs commands under measurement, and says on what machine and with what versions: shared by the benchmarks."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "parity"))  # for `harness`

PEFT = ROOT / ".build/release/peft"
WORK = ROOT / ".cache" / "bench"
WORK.mkdir(parents=True, exist_ok=True)
MODEL = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
VOCABULARY = 49152

# Runs a command and writes its peak of memory into a file. A process of its own, since a child counts the memory of the process that it is
# forked from as its own, and this one has loaded libraries and a model.
WATCHER = """
import os, sys
_, status, usage = os.wait4(os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:]), 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss * 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run_measured(command, on_line=lambda line, seconds: None):
    """Runs a command; returns its peak resident bytes. `on_line` gets each line of standard output and its second after the start.

    Peak memory is the kernel's maximum resident set of the process, the largest of the processes that it waited for.
    """
    print("+", shown(command), flush=True)
    peak = WORK / "peak"
    watched = [sys.executable, "-I", "-S", "-c", WATCHER, str(peak), *map(str, command)]
    start = time.perf_counter()
    process = subprocess.Popen(watched, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        on_line(line, time.perf_counter() - start)
    if process.wait() != 0:
        sys.exit(f"error: {shown(command)}: exit {process.returncode}")
    return int(peak.read_text())


def run_json(command):
    """Runs a command; the JSON object that it prints last, and its peak resident bytes."""
    lines = []
    peak = run_measured(command, lambda line, _: lines.append(line))
    return json.loads(lines[-1]), peak


def shown(command):
    """A command line as a reader of the checkout would type it."""
    return " ".join(map(str, command)).replace(sys.executable, "python").replace(str(ROOT) + "/", "")


def machine():
    """Model name of the CPU, and a line about the machine."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*:\s*(.*)", text)
    cpu = name[1] if name else platform.machine()
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 2**20
    features = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{f}\b", text)]
    return cpu, f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {' '.join(features)}"


def heading(title, load, *lines, peers=("torch", "transformers", "peft", "bitsandbytes")):
    """The first lines of a result file; `load` is the load average from before the measurements."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in peers)
    version = subprocess.run([PEFT, "--version"], capture_output=True, text=True, check=True).stdout
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout
    return [
        f"# {title}", "", f"- Machine: {machine()[1]}; load average at the start {load:.2f}",
        f"- Ours: {', '.join(version.split(chr(10))).strip(', ')}, revision {revision.strip()}",
        *([f"- Peer: {versions}"] if peers else []), *(f"- {line}" for line in lines), ""]


def median_by(rows, key):
    """The median of an attribute over measurements."""
    return statistics.median(getattr(row, key) for row in rows)


def write_result(name, lines):
    """Writes today's result file of this machine and shows it."""
    slug = re.sub(r"\W+", "-", re.sub(r"\(\w+\)", "", machine()[0]).lower()).strip("-")
    path = ROOT / "Benchmarks" / "Results" / f"{datetime.date.today()}-{name}{slug}.md"
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())
    print(f"written to {path.relative_to(ROOT)}")
