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
        self.name = name
        self.peft = arguments.peft.resolve()
        self.model = arguments.model.resolve()
        self.dequantized = arguments.work.resolve() / "smollm2-float32"
        self.work = arguments.work.resolve() / name
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        self.num_compared = self.num_failed = 0

    def report(self, good, text):
        """Counts a comparison and prints its line."""
        self.num_compared += 1
        self.num_failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {text}", flush=True)

    def at_most(self, name, measured, bound):
        """Reports whether `measured` is at most `bound` (a NaN is not)."""
        self.report(measured <= bound, f"{name}: {measured:.3g} vs at most {bound:.3g}")

    def at_least(self, name, measured, bound):
        """Reports whether `measured` is at least `bound`: that a comparison can tell a difference at all."""
        self.report(measured >= bound, f"{name}: {measured:.3g} vs at least {bound:.3g}")

    def equal(self, name, ours, theirs):
        """Reports whether both are the same."""
        good = ours == theirs
        self.report(good, name if good else f"{name}: {ours} vs {theirs}")

    def equal_each(self, name, inputs, ours, theirs):
        """Reports whether both lists of results are the same, and shows the first inputs where they differ."""
        self.equal(f"{name}: number", (len(ours), len(theirs)), (len(inputs), len(inputs)))
        different = [case for case in zip(inputs, ours, theirs) if case[1] != case[2]]
        for text, left, right in different[:3]:
            self.report(False, f"{name}: {text!r}: {left} vs {right}")
        self.equal(f"{name}: different, of {len(inputs)}", len(different), 0)

    def attempt(self, name, compare, *arguments, **options):
        """Calls `compare(check, name, *arguments, **options)`; an exception is reported as a failure, and the check goes on."""
        try:
            compare(self, name, *arguments, **options)
        except Exception:
            self.report(False, f"{name}: {traceback.format_exc(limit=-3)}")

    def finish(self):
        """Says how many comparisons were made; exits with 1 if one failed or none was made."""
        print(f"{self.name}: {self.num_compared - self.num_failed} of {self.num_compared} comparisons hold", flush=True)
        sys.exit(1 if self.num_failed or not self.num_compared else 0)

    def tokenize(self, model, path, *flags):
        """`peft tokenize` of a file: the token ids of each line."""
        return [json.loads(line) for line in self.run("tokenize", "--model", model, path, *flags).splitlines()]

    def run(self, *arguments):
        """Runs `peft` with the arguments and returns its standard output; an exit status but 0 raises with its messages."""
        command = [str(self.peft), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    def score(self, name, model, rows, *flags, logits=False):
        """`peft score` of rows: (the JSON result, a list of logits arrays if asked for)."""
        data = write_rows(self.work / f"{name}.jsonl", rows)
        out, tensors = self.work / f"{name}.json", self.work / f"{name}.safetensors"
        asked = ["--logits", tensors] if logits else []
        self.run("score", "--model", model, "--data", data, "--json", out, *asked, *flags)
        result = json.loads(out.read_text())
        if not logits:
            return result, None
        arrays = load_file(tensors)
        return result, [arrays[f"logits.{row}"] for row in range(len(rows))]


def bundled_chats(name):
    """The conversations of a bundled file of examples, `train` or `eval`: a list of messages each."""
    path = pathlib.Path(__file__).resolve().parents[3] / "Examples" / "wordnet" / f"{name}.jsonl"
    return [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path, rows):
    """Writes rows, lists of token ids or whole rows as dictionaries, as JSON lines and returns the path."""
    whole = (row if isinstance(row, dict) else {"tokens": list(map(int, row))} for row in rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in whole))
    return path


def read_metrics(folder):
    """The logged steps of `metrics.jsonl`: the lines that have a loss."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line]
