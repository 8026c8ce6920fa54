# Every target says what it does, installs only what is missing, and works offline once it has run.
# LIBTORCH=<folder> in the environment uses that libtorch 2.13.0 instead of the wheel in .venv-torch.

.PHONY: help setup libtorch model torchrun launchers emulator build test sanitize fuzz demo parity bench fixtures cuda-check lint budget clean distclean
.NOTPARALLEL:

help:
	@echo "make demo      build, fine-tune SmolLM2-135M in 4 bits on WordNet, show what it learned"
	@echo "make test      build and run all tests, lint, budgets (what CI runs)"
	@echo "make build     leave the release command at .build/release/peft, its reader of Parquet beside it"
	@echo "make model     fetch the demo model into .cache/models"
	@echo "make launchers install Open MPI and Slurm for their tests, try both"
	@echo "make emulator  install QEMU for the tests on older processors"
	@echo "make sanitize  run all kernels under address, undefined behaviour and thread sanitizers"
	@echo "make fuzz      give every reader of files changed ones, SECONDS=600 each; kept inputs are part of make test"
	@echo "make parity    compare with transformers + PEFT + bitsandbytes, in .venv-parity"
	@echo "make bench     measure training beside the peer, in .venv-parity, generation beside llama.cpp"
	@echo "make fixtures  make the committed test fixtures again with the pinned peers, show the difference"
	@echo "make cuda-check  build against a CUDA libtorch, run all tests on the CPU; no GPU needed, downloads 2.5 GB"
	@echo "make lint      swift format in strict mode"
	@echo "make budget    sizes, counts and imports that are kept in bounds"
	@echo "make clean     remove build products (distclean: also libtorch, Arrow, venvs, the model)"

setup:
	@scripts/setup/system.sh swift libraries
	@scripts/setup/libtorch.sh
	@scripts/setup/arrow.sh
	@scripts/setup/checkout.sh

libtorch:
	@scripts/setup/libtorch.sh

model:
	@scripts/setup/model.sh

torchrun: libtorch
	@scripts/setup/torchrun.sh

launchers:
	@scripts/setup/launchers.sh

emulator:
	@scripts/setup/system.sh emulator

build: setup
	swift build -c release --product peft
	swift build -c release --product PEFTParquet

test: setup model torchrun launchers emulator
	@scripts/test.sh

sanitize:
	@scripts/setup/system.sh swift libraries
	@scripts/sanitize.sh

SECONDS ?= 600
fuzz: setup
	swift build -c release --product Fuzz
	swift build -c release --product PEFTParquet
	.build/release/Fuzz run $(SECONDS)

demo: build model
	@scripts/demo.sh

parity: build model
	swift build -c release --product TokenizerProbe
	@scripts/parity/run.sh

bench: build model
	swift build -c release --product KernelTimes
	@scripts/parity/venv.sh
	@scripts/llama/venv.sh
	@for script in train_step packed_rows score sharded_step shared_prefixes generate kernels load large_models; do .venv-parity/bin/python Benchmarks/$$script.py || exit; done

fixtures:
	@scripts/fixtures.sh

cuda-check:
	@scripts/setup/system.sh swift libraries
	@scripts/setup/model.sh
	@scripts/cuda_check.sh

lint:
	@scripts/lint.sh

budget:
	@scripts/budget.py

clean:
	rm -rf .build .build-cuda demo-output

distclean: clean
	rm -rf .libarrow .libtorch .venv-torch .libtorch-cuda .venv-torch-cuda .venv-parity .venv-llama .cache
