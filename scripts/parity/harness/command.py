"""Runs the built `peft` command and reports comparisons, one line each."""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import traceback

from safetensors.numpy import load_file


class Check:
    """One parity check: its arguments, its folder, and what it has compared so far."""

    def __init__(self, name, description):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--peft", type=pathlib.Path, required=True, help="the built command")
        parser.add_argument("--model", type=pathlib.Path, required=True, help="the demo model, a GGUF file")
        parser.add_argument("--work", type=pathlib.Path, required=True, help="a folder for files made on the way")
        arguments = parser.parse_args()
        self.peft = arguments.peft.resolve()
        self.model = arguments.model.resolve()
        self.dequantized = arguments.work.resolve() / "smollm2-float32"
        self.work = arguments.work.resolve() / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.num_failed = 0

    def at_most(self, name, measured, bound):
        """Reports whether `measured` is at most `bound` (a NaN is not)."""
        good = measured <= bound
        self.num_failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}: {measured:.3g} vs {bound:.3g}", flush=True)

    def at_least(self, name, measured, bound):
        """Reports whether `measured` is at least `bound`: that a comparison can tell a difference at all."""
        good = measured >= bound
        self.num_failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}: {measured:.3g} vs at least {bound:.3g}", flush=True)

    def equal(self, name, ours, theirs):
        """Reports whether both are the same."""
        good = ours == theirs
        self.num_failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}" + ("" if good else f": {ours} vs {theirs}"), flush=True)

    def attempt(self, name, compare, *arguments):
        """Calls `compare(check, name, *arguments)`; an exception is reported as a failure, and the check goes on."""
        try:
            compare(self, name, *arguments)
        except Exception:
            self.num_failed += 1
            print(f"FAIL {name}: {traceback.format_exc(limit=-3)}", flush=True)

    def finish(self):
        """Exits with 1 if a comparison failed."""
        sys.exit(1 if self.num_failed else 0)

    def run(self, *arguments):
        """Runs `peft` with the arguments and returns its standard output; an exit status but 0 raises with its messages."""
        command = [str(self.peft), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    def score(self, name, model, rows, *flags, logits=False):
        """`peft score` of token rows: (the JSON result, a list of logits arrays if asked for)."""
        data = write_token_rows(self.work / f"{name}.jsonl", rows)
        out, tensors = self.work / f"{name}.json", self.work / f"{name}.safetensors"
        asked = ["--logits", tensors] if logits else []
        self.run("score", "--model", model, "--data", data, "--json", out, *asked, *flags)
        result = json.loads(out.read_text())
        if not logits:
            return result, None
        arrays = load_file(tensors)
        return result, [arrays[f"logits.{row}"] for row in range(len(rows))]


def write_token_rows(path, rows):
    """Writes rows of token ids as JSON lines and returns the path."""
    path.write_text("".join(json.dumps({"tokens": list(map(int, row))}) + "\n" for row in rows))
    return path


def read_metrics(folder):
    """The logged steps of `metrics.jsonl`: the lines that have a loss."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]
