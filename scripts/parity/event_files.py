"""TensorBoard's own reader finds in the event files of a run, stopped and resumed, the numbers of `metrics.jsonl`."""

import json
import os
import struct
import subprocess

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.command import Check, write_rows
from harness.models import random_rows, tiny_llama


def tag(key):
    return "eval/" + key[5:] if key.startswith("eval_") else "train/" + key


def rounded(value):
    """A number as the event files hold it, in float32."""
    return struct.unpack("f", struct.pack("f", value))[0]


def compare(check, name, folder):
    reader = EventAccumulator(str(folder / "runs"))
    reader.Reload()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    keys = sorted({key for line in lines for key in line if key != "step"})
    check.equal(f"{name}: names", sorted(reader.Tags()["scalars"]), sorted(map(tag, keys)))
    for key in keys:
        ours = [(line["step"], rounded(line[key])) for line in lines if key in line]
        theirs = [(event.step, event.value) for event in reader.Scalars(tag(key))]
        check.equal(f"{name}: {key}, {len(ours)} values", ours, theirs)


def main():
    check = Check("event_files", __doc__)
    model = check.work / "model"
    tiny_llama(seed=5, vocab_size=60, hidden_size=32).save_pretrained(model)
    rows = write_rows(check.work / "rows.jsonl", random_rows(3, 60, range(4, 20)))
    flags = [
        "--model", model, "--data", rows, "--eval-data", rows, "--quantize", "none", "--dtype", "float32", "--logging-steps", 1,
        "--eval-steps", 2, "--report-to", "tensorboard", "--threads", 1]
    check.run("train", *flags, "--output-dir", check.work / "whole", "--max-steps", 6)
    compare(check, "whole", check.work / "whole")
    # What a killed run wrote after its checkpoint no longer holds when it goes on from there.
    folder = check.work / "resumed"
    check.run("train", *flags, "--output-dir", folder, "--max-steps", 6, "--save-steps", 3)
    subprocess.run(["rm", "-r", folder / "checkpoint-6"], check=True)
    check.run("train", *flags, "--output-dir", folder, "--max-steps", 7, "--save-steps", 3, "--resume")
    check.equal("resumed: event files", len(os.listdir(folder / "runs")), 2)
    compare(check, "resumed", folder)
    check.finish()


if __name__ == "__main__":
    main()
