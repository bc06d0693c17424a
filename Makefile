# What a person types: `make` lists the targets. Needs GNU make and cargo; the rest is installed
# where it is missing (see scripts/).

CARGO ?= cargo
PYTHON ?= /usr/bin/python3
CONFIG ?= configs/quickstart.json
LOGDIR ?= runs/quickstart
PROMPT ?= Once
ROWS ?=

# Where rustup puts cargo, for shells that have not read its profile yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Without it the drivers' window-system code complains on stderr; nothing is put there.
export XDG_RUNTIME_DIR ?= $(CURDIR)/target

# Cargo's own answer, since its configuration may move the folder.
TARGET_DIR = $(or $(shell PATH="$(PATH)" $(CARGO) metadata --locked --no-deps --format-version 1 2>/dev/null \
	| sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'),target)
RELEASE = $(TARGET_DIR)/release/gpu-tlm
DEBUG = $(TARGET_DIR)/debug/gpu-tlm
AMD_STATS = $(TARGET_DIR)/debug/examples/amd_shader_stats

# Steps that install packages would get in each other's way.
.NOTPARALLEL:

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1#\2/p' Makefile | awk -F'#' '{ printf "%-22s %s\n", $$1, $$2 }'

.PHONY: build
build: toolchain ## build the program with full optimisation
	@echo "==> building gpu-tlm (release)"
	$(CARGO) build --release --locked

.PHONY: quickstart
quickstart: toolchain loader build ## train a small model on the built-in corpus and let it talk
	@scripts/ensure-adapter.sh "$(RELEASE)"
	@if [ -e "$(LOGDIR)/checkpoints/latest.safetensors" ]; then \
		echo "==> $(LOGDIR) holds a model already; LOGDIR=... trains another"; \
	else \
		echo "==> training: $(CONFIG) -> $(LOGDIR)"; \
		"$(RELEASE)" train --config $(CONFIG) --logdir $(LOGDIR); \
	fi
	@echo "==> generating from $(LOGDIR)/checkpoints/latest.safetensors"
	"$(RELEASE)" generate --checkpoint $(LOGDIR)/checkpoints/latest.safetensors \
		--tokenizer $(LOGDIR)/tokenizer --prompt "$(PROMPT)" --temperature 0.6 --num-samples 3
	@echo "==> done"
	@echo "    the program     $(RELEASE)"
	@echo "    the model       $(LOGDIR)/checkpoints/latest.safetensors"
	@echo "    its tokenizer   $(LOGDIR)/tokenizer"
	@echo "    its losses      $(LOGDIR)/metrics.jsonl, $(LOGDIR)/loss.svg"

# The tests are built before the adapter is asked for, since the program that asks is built with them.
.PHONY: test
test: toolchain loader ## run all tests on this machine's adapter
	@echo "==> building the tests"
	$(CARGO) test --locked --no-run
	@scripts/ensure-adapter.sh "$(DEBUG)"
	@echo "==> running the tests"
	$(CARGO) test --locked
	@echo "==> running the examples of the library"
	$(CARGO) run --locked --quiet --example kernel_against_reference
	$(CARGO) run --locked --quiet --example train_tiny -- "$(TARGET_DIR)/example-run"
	$(CARGO) run --locked --quiet --example score_and_sample -- "$(TARGET_DIR)/example-run"

.PHONY: test-vendors
test-vendors: test-swiftshader test-tint ## check the shaders with other drivers and compilers than this machine's

.PHONY: test-swiftshader
test-swiftshader: toolchain loader ## run the GPU tests on SwiftShader, the software adapter of Chromium
	@echo "==> building the tests"
	$(CARGO) test --locked --no-run
	@scripts/test-swiftshader.sh "$(CARGO)" "$(DEBUG)"

.PHONY: test-tint
test-tint: toolchain ## compile every shader with Tint, Chromium's compiler, and run some of them there
	@echo "==> every shader in Chromium's WebGPU"
	@mkdir -p "$(TARGET_DIR)"
	@scripts/test-tint.sh "$(CARGO)" "$(PYTHON)" "$(TARGET_DIR)"

SERVED = $(TARGET_DIR)/served

.PHONY: test-page
test-page: toolchain loader ## use the page of gpu-tlm serve in a headless Chromium, and take pictures of it
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@scripts/ensure-adapter.sh "$(DEBUG)"
	@echo "==> the page in Chromium"
	@mkdir -p "$(SERVED)"
	@scripts/test-page.sh "$(DEBUG)" "$(PYTHON)" "$(SERVED)"

.PHONY: test-openai-client
test-openai-client: toolchain loader ## ask gpu-tlm serve by OpenAI's Python client and curl
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@scripts/ensure-adapter.sh "$(DEBUG)"
	@mkdir -p "$(SERVED)"
	@scripts/test-openai-client.sh "$(DEBUG)" "$(PYTHON)" "$(SERVED)"

# By hand: it installs most of a gigabyte of Python packages.
.PHONY: test-lm-eval
test-lm-eval: toolchain loader ## ask gpu-tlm serve by EleutherAI's lm_eval, and compare with gpu-tlm score
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@scripts/ensure-adapter.sh "$(DEBUG)"
	@mkdir -p "$(TARGET_DIR)/lm-eval"
	@scripts/test-lm-eval.sh "$(DEBUG)" "$(PYTHON)" "$(TARGET_DIR)/lm-eval" "$(SERVED)/run"

# By hand: it installs some gigabytes of Python packages.
.PHONY: test-interop
test-interop: toolchain loader ## hold exports against transformers, PyTorch and llama.cpp
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@scripts/ensure-adapter.sh "$(DEBUG)"
	$(CARGO) test --locked --test main interop
	@mkdir -p "$(TARGET_DIR)/interop"
	@scripts/test-interop.sh "$(DEBUG)" "$(PYTHON)" "$(TARGET_DIR)/tmp/interop" "$(TARGET_DIR)/interop"

PYTHON_PACKAGE = $(TARGET_DIR)/python

.PHONY: python-wheel
python-wheel: toolchain ## build the Python package gpu_tlm as a wheel, with full optimisation
	@echo "==> the wheel of gpu_tlm (release)"
	@CARGO_TARGET_DIR="$(TARGET_DIR)" scripts/python-wheel.sh "$(PYTHON)" "$(PYTHON_PACKAGE)" release

.PHONY: test-python
test-python: toolchain loader ## build the Python package, install it into venvs of its own, and test it
	@scripts/ensure-torch.sh "$(PYTHON)"
	@CARGO_TARGET_DIR="$(TARGET_DIR)" scripts/test-python.sh "$(PYTHON)" "$(PYTHON_PACKAGE)"

SECONDS_OF_SOAK ?= 60

.PHONY: soak-serve
soak-serve: toolchain loader ## ask gpu-tlm serve by 64 clients at once for a minute, some of which hang up
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@scripts/ensure-adapter.sh "$(DEBUG)"
	@mkdir -p "$(SERVED)"
	@scripts/ensure-served-model.sh "$(DEBUG)" "$(SERVED)/run"
	@echo "==> a soak of $(SECONDS_OF_SOAK) seconds"
	@$(PYTHON) scripts/soak_serve.py "$(DEBUG)" "$(SERVED)/run" $(SECONDS_OF_SOAK)

# Texts to compare tokenizers on, and reference merges; what of them is absent is left out, aloud.
DATA ?= $(wildcard ../shared/data)
COMPARISON = $(TARGET_DIR)/release/tokenizer-comparison

.PHONY: test-tokenizers
test-tokenizers: comparison ## hold the tokenizer's ids against tiktoken-rs's and Hugging Face's, and read Parquet
	@echo "==> GPT-2's ids by three programs"
	"$(COMPARISON)" equal $(DATA)

.PHONY: bench-tokenizers
bench-tokenizers: comparison ## time training and encoding beside tiktoken-rs and Hugging Face's, and measure memory
	"$(COMPARISON)" speed $(DATA)
	"$(COMPARISON)" memory

.PHONY: comparison
comparison: toolchain
	@echo "==> building the comparison of tokenizers (release)"
	$(CARGO) build --locked --release -p tokenizer-comparison

VENDORS = $(TARGET_DIR)/vendors

# The checks of what other vendors' compilers make of the shaders; none of them runs on a GPU.
.PHONY: test-compilers
test-compilers: toolchain vendor-tools ## give every shader to spirv-val, DirectX's compiler and Mesa's AMD compiler
	@echo "==> SPIR-V: spirv-val"
	tests/vendors/spirv.sh "$(VENDORS)/spirv"
	@echo "==> HLSL: DirectX's compiler"
	"$(DEBUG)" shaders --format hlsl --out "$(VENDORS)/hlsl"
	$(PYTHON) tests/vendors/dxc.py "$(VENDORS)/dxc/compushady/backends/libdxcompiler_x86_64.so" "$(VENDORS)/hlsl"
	@echo "==> MSL: naga"
	"$(DEBUG)" shaders --format msl --out "$(VENDORS)/msl"
	@echo "==> AMD: Mesa's compiler"
	"$(AMD_STATS)" "$(VENDORS)/spirv" docs/amd-shader-stats.md "$(VENDORS)/newer-mesa"

# A Mesa that is newer than this system's runs products by cooperative matrices on the CPU.
.PHONY: test-matrices
test-matrices: toolchain ## run the kernels with cooperative matrices, without a GPU
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@echo "==> cooperative matrices on lavapipe"
	@scripts/test-matrices.sh "$(DEBUG)" "$(VENDORS)/newest-mesa"

.PHONY: test-validation
test-validation: toolchain loader ## run every kernel and a small model under Vulkan's validation layers
	@scripts/ensure-validation.sh
	@echo "==> building gpu-tlm"
	$(CARGO) build --locked --bin gpu-tlm
	@scripts/ensure-adapter.sh "$(DEBUG)"
	@echo "==> under Vulkan's validation layers"
	@scripts/test-validation.sh "$(DEBUG)"

# Windows' and macOS' backends of wgpu, and what of our own code is for them alone. The standard
# library is compiled and not only checked, so without optimisation.
.PHONY: test-platforms
test-platforms: toolchain ## check the types of the whole program for Windows and macOS
	@rustc=$$(scripts/ensure-platforms.sh) && echo "==> the program on Windows and macOS" && \
		RUSTC=$$rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="-D warnings" \
		CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=false \
		$(CARGO) check --locked --lib --bins -Zbuild-std=std,panic_abort \
			--target x86_64-pc-windows-msvc --target aarch64-apple-darwin \
			--target-dir "$(TARGET_DIR)/platforms"

.PHONY: amd-shader-stats
amd-shader-stats: toolchain vendor-tools ## write docs/amd-shader-stats.md
	"$(AMD_STATS)" "$(VENDORS)/spirv" docs/amd-shader-stats.md "$(VENDORS)/newer-mesa" --write

.PHONY: vendor-tools
vendor-tools:
	@scripts/ensure-vendor-tools.sh "$(VENDORS)/dxc" $(PYTHON)
	@scripts/ensure-mesa-of.sh trixie radeon "$(VENDORS)/newer-mesa"
	$(CARGO) build --locked --bin gpu-tlm --example amd_shader_stats
	rm -rf "$(VENDORS)/spirv" "$(VENDORS)/hlsl" "$(VENDORS)/msl"
	"$(DEBUG)" shaders --format spirv --out "$(VENDORS)/spirv"

.PHONY: lint
lint: format clippy doc ## check format, clippy and documentation; warnings are errors

.PHONY: format
format: ## check the format
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy: toolchain ## check with clippy
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --no-default-features -- -D warnings

.PHONY: doc
doc: toolchain ## build the documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

.PHONY: bench
bench: toolchain loader build ## time every kernel on this machine; ROWS=matmul times those alone
	@scripts/ensure-adapter.sh "$(RELEASE)"
	$(CARGO) bench --locked --bench kernels -- $(ROWS)

.PHONY: performance
performance: toolchain loader build ## time whole steps and products, and write docs/performance.md
	@scripts/ensure-adapter.sh "$(RELEASE)"
	@scripts/ensure-torch.sh $(PYTHON)
	$(PYTHON) scripts/performance.py "$(RELEASE)" docs/performance.md

.PHONY: adapters
adapters: ## write docs/adapters/README.md from the JSON pages beside it
	$(PYTHON) scripts/adapters.py docs/adapters

.PHONY: test-adapters
test-adapters: ## check that docs/adapters/README.md is what the JSON pages beside it say
	@echo "==> the table of adapters"
	$(PYTHON) scripts/adapters.py docs/adapters --check

.PHONY: oracle
oracle: ## check the PyTorch oracle and write its fixtures anew
	@scripts/ensure-torch.sh $(PYTHON)
	@echo "==> checking the oracle"
	$(PYTHON) tests/oracle/check_model.py
	@echo "==> writing tests/oracle/fixtures; 'git diff --stat' shows what changed"
	$(PYTHON) tests/oracle/make_fixtures.py

.PHONY: clean
clean: ## remove what was built; runs/ stays
	$(CARGO) clean

.PHONY: toolchain
toolchain:
	@scripts/ensure-toolchain.sh $(CARGO)

.PHONY: loader
loader:
	@scripts/ensure-adapter.sh
