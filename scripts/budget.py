#!/usr/bin/env python3
"""Checks what is kept in bounds: lines per file, risky constructs, module imports, paths of one machine.

The numbers are in budget.json beside this file and may only fall: lower them there when a count falls. Prints a table of the
counts, then one line per violation with file, line and remedy; exits 1 if there is any. `--root` checks another tree.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

# The diagram of docs/architecture.md: which modules of this package each module may import. Tests are exempt.
CORE = ["PEFTLayers", "Torch"]
MIDDLE = ["PEFTAdapters", "PEFTQuantization", "PEFTModels"]
TEXT = ["PEFTData", "PEFTTokenizers"]
ALLOWED_IMPORTS = {
    "Torch": ["CTorch"],
    "PEFTLayers": ["Torch", "CKernels"],
    "PEFTQuantization": CORE + ["CKernels"],
    "PEFTAdapters": CORE,
    "PEFTModels": CORE,
    "PEFTSharding": CORE,
    "PEFTCheckpoints": MIDDLE + CORE,
    "PEFTTokenizers": ["COniguruma"],
    "PEFTData": ["PEFTTokenizers", "CParquet"],
    "PEFTTraining": ["PEFTCheckpoints", "PEFTSharding", "CYAML"] + MIDDLE + CORE + TEXT,
    "PEFT": ["PEFTTraining", "PEFTCheckpoints", "PEFTSharding"] + MIDDLE + CORE + TEXT,
    "PEFTCommand": ["PEFT"],
}
C_MODULES = {"CTorch", "CKernels", "CProcess", "COniguruma", "CParquet", "CYAML"}
PROJECT_MODULES = set(ALLOWED_IMPORTS) | C_MODULES

CONSTRUCTS = {
    "fatalError": r"\bfatalError\s*\(",
    "try!": r"\btry!",
    "as!": r"\bas!",
    "@unchecked Sendable": r"@unchecked\s+Sendable",
    "nonisolated(unsafe)": r"nonisolated\(unsafe\)",
    "TODO": r"\b(?:TODO|FIXME)\b",
}
SOURCE_SUFFIXES = {".swift", ".c", ".cpp", ".h", ".py", ".sh"}
IMPORT = re.compile(
    r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?"
    r"import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)"
)
TORCH_INCLUDE = re.compile(r"^\s*#\s*include\s*[<\"](?:torch|ATen|c10)/")
# Written in pieces so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:wo" r"rk|fa" r"rm|ro" r"ot|home/\w+|Us" r"ers/\w+|tmp/bash" r"_jobs)(?=[/.])")
REGISTRY_HOST = re.compile(r"(?:py" r"pi\.org|python" r"hosted\.org|deb\.deb" r"ian\.org|registry\.npm" r"js)")


def tracked_files(root):
    """Every file that git tracks or would add, as paths relative to root."""
    names = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True,
    ).stdout.decode().split("\0")
    return [pathlib.PurePosixPath(n) for n in sorted(set(names)) if n and (root / n).is_file()]


def module_of(path):
    """The module that a file below Sources belongs to, else None."""
    return path.parts[1] if len(path.parts) > 2 and path.parts[0] == "Sources" else None


def import_violations(path, lines):
    """Imports of modules that the diagram does not give to this file's module; torch headers outside CTorch."""
    module = module_of(path)
    if module is None:
        return
    for number, line in enumerate(lines, 1):
        if TORCH_INCLUDE.match(line) and module != "CTorch":
            yield f"{path}:{number}: {module} includes a libtorch header; only CTorch may"
        match = IMPORT.match(line) if path.suffix == ".swift" else None
        if not match or match[1] not in PROJECT_MODULES:
            continue
        if module not in ALLOWED_IMPORTS:
            yield f"{path}:{number}: module {module} is not in the diagram; add it to ALLOWED_IMPORTS in scripts/budget.py"
        elif match[1] not in ALLOWED_IMPORTS[module]:
            allowed = ", ".join(ALLOWED_IMPORTS[module])
            yield f"{path}:{number}: {module} imports {match[1]}; it may import {allowed}"


def line_violations(path, lines):
    """Paths of one machine and hosts of registries, in any text file."""
    for number, line in enumerate(lines, 1):
        if match := MACHINE_PATH.search(line):
            yield f"{path}:{number}: path of one machine '{match[0]}'; use a path relative to the checkout"
        if match := REGISTRY_HOST.search(line):
            yield f"{path}:{number}: registry host '{match[0]}'; name the package, not the host"


def text_of(construct, line):
    """The part of a line in which the construct counts: the code, and for TODO the comment too."""
    return line if construct == "TODO" else line.split("//")[0]


def check(root, budget):
    """Returns (count per construct, violations) of the tree at root."""
    counts = dict.fromkeys(CONSTRUCTS, 0)
    violations = []
    for path in tracked_files(root):
        try:
            lines = (root / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        violations += line_violations(path, lines)
        if path.suffix not in SOURCE_SUFFIXES or path.parts[:2] == ("Tests", "Fixtures"):
            continue
        if len(lines) > budget["maximumLinesPerFile"]:
            violations.append(f"{path}: {len(lines)} lines, at most {budget['maximumLinesPerFile']}; split it by topic")
        violations += import_violations(path, lines)
        if path.suffix == ".swift":
            for name, pattern in CONSTRUCTS.items():
                counts[name] += sum(len(re.findall(pattern, text_of(name, line))) for line in lines)
    for name, count in counts.items():
        allowed = budget["counts"][name]
        if count > allowed:
            violations.append(f"{name}: {count} uses, the budget is {allowed}; counts may only fall, so remove the new ones")
    return counts, violations


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--root", type=pathlib.Path, default=here.parent, help="the tree to check")
    root = parser.parse_args().root
    budget = json.loads((here / "budget.json").read_text())
    counts, violations = check(root, budget)
    print(f"{'construct':<22}{'uses':>6}{'budget':>8}")
    for name, count in counts.items():
        allowed = budget["counts"][name]
        print(f"{name:<22}{count:>6}{allowed:>8}" + ("  (lower it in scripts/budget.json)" if count < allowed else ""))
    for violation in violations:
        print("budget: " + violation, file=sys.stderr)
    print(f"budget: {len(violations)} violations" if violations else "budget: all within bounds")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
