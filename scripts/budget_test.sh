#!/usr/bin/env bash
# Seeds one violation of each kind in a tree of its own and checks that budget.py finds just that one.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git -C "$tree" init -q

# expect NAME PATTERN FILE CONTENT: a tree with only FILE is refused with a line that matches PATTERN.
expect() {
    local output
    mkdir -p "$tree/$(dirname "$3")"
    printf '%b\n' "$4" >"$tree/$3"
    if output=$(python3 scripts/budget.py --root "$tree" 2>&1); then
        fail "budget_test: $1: expected exit 1, budget.py passed"
    fi
    grep -q "$2" <<<"$output" || fail "budget_test: $1: expected a line with '$2', found: $output"
    [ "$(grep -c '^budget: ' <<<"$output")" -eq 2 ] || fail "budget_test: $1: expected one violation, found: $output"
    rm "$tree/$3"
}

bang='!'
expect "force try" "^budget: try!: 1 uses" Sources/Torch/A.swift "let a = try${bang} f()"
expect "forced cast" "^budget: as!: 1 uses" Sources/Torch/A.swift "let a = b as${bang} C"
expect "unfinished work" "^budget: TODO: 1 uses" Sources/Torch/A.swift "f()  // TO""DO later"
expect "long file" "A.swift: 601 lines, at most 600" Sources/Torch/A.swift "$(printf '%0.s\\n' $(seq 600))"
expect "sideways import" "PEFTModels imports PEFTAdapters" Sources/PEFTModels/A.swift "package import PEFTAdapters"
expect "C handles" "PEFTLayers imports CTorch" Sources/PEFTLayers/A.swift "import CTorch"
expect "tokenizers on torch" "PEFTTokenizers imports Torch" Sources/PEFTTokenizers/A.swift "import class Torch.Tensor"
expect "torch header" "CKernels includes a libtorch header" Sources/CKernels/a.cpp "#include <ATen/ATen.h>"
expect "machine path" "path of one machine" docs/a.md "see /ro""ot/x"
expect "registry host" "registry host" docs/a.md "from py""pi.org"

mkdir -p "$tree/Tests/ATests" "$tree/Sources/PEFTModels"
printf 'import CTorch\n' >"$tree/Tests/ATests/A.swift"
printf '/// No try%s here.\npublic import Foundation\nimport PEFTLayers\n' "$bang" >"$tree/Sources/PEFTModels/A.swift"
python3 scripts/budget.py --root "$tree" >/dev/null || fail "budget_test: a clean tree: expected exit 0"
say "budget_test: 11 passed"
