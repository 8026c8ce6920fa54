"""Runs the built `TokenizerProbe` beside the command, on lines of JSON."""

import json
import subprocess


def write_lines(path, values):
    """Writes one value a line as JSON and returns the path."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def probe(check, mode, subject, path):
    """What the probe writes in a mode (`rows`, `speed`, `chats`) for a tokenizer or template: a value for each line."""
    program = check.peft.parent / "TokenizerProbe"
    if not program.exists():
        raise RuntimeError(f"{program} is missing: swift build -c release --product TokenizerProbe")
    result = subprocess.run([program, mode, subject, path], capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"TokenizerProbe {mode} {subject}: exit {result.returncode}\n{result.stderr}")
    return [json.loads(line) for line in result.stdout.split("\n") if line]
