# Names for the things one does in a checkout; how they are done stands in build.py and in tests/.
.DEFAULT_GOAL := help
.PHONY: help setup build models test fuzz prove lab demo bench icount cycles recall docs wheels lint clean

PYTHON ?= python3
ARM64  := .arm64/bin/python
HOST   := $(CURDIR)/.arm64/host/bin/python
# Emulated, the demo runs on a processor that exists; .arm64/bin/python alone takes the model with everything.
CPU    := $(if $(filter x86_64,$(shell uname -m)),QEMU_CPU=$${QEMU_CPU:-neoverse-n1})
# What runs elsewhere, and what checks it; not in an archive of the source.
WORKFLOWS := $(wildcard .github/workflows/*.yml)
ZIZMOR := $(CURDIR)/.arm64/host/bin/zizmor

help:    ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 16

setup:   ## leave .arm64/bin/python: an AArch64 Python, native or emulated
	@cd tests && "$(PYTHON)" -m emulation.setup

build:   ## assemble asm/*.S into pyint8dot/lib (and the library of the tests)
	@"$(PYTHON)" build.py --tests

models: setup        ## make the ONNX models of demo and tests, once, with this machine's own Python
	@"$(HOST)" -m pyint8dot.onnx.zoo >/dev/null

test: setup build models  ## prove it: the suite on every CPU model this machine has or can emulate
	@cd tests && "$(HOST)" -m emulation.run test

fuzz: setup           ## run N mutated ONNX models (100000), and keep those that do what they must not
	@cd tests && PYTHONPATH="$(CURDIR)" "$(HOST)" -m fuzz $(or $(N),100000)

prove: setup build   ## prove every entry from its bytes for all values of operands, and that the prover refuses mutants
	@cd tests && PYTHONPATH="$(CURDIR)" "$(HOST)" -m proof $(if $(UPDATE),--update)

lab: setup build     ## try a kernel that has no row yet, or has one: KERNEL=path/to/name.S; QUICK=1 proves fewer shapes
	@PYTHONPATH=tests "$(HOST)" -m lab $(if $(QUICK),--quick) "$(KERNEL)"

demo: setup build models  ## embed real sentences with an int8 MiniLM, and compare the kernels on whole models
	@$(CPU) "$(ARM64)" -m pyint8dot demo

bench: setup build   ## measure: pytest --benchmark-only on the AArch64 Python, and recall of searches, drawn where it can be counted
	@cd tests && "$(HOST)" -m emulation.run bench
	@PYTHONPATH=tests "$(HOST)" -m recall.measure --sentences 2200 --plot .arm64/reports/recall.svg

icount: setup build models  ## count the instructions of whole calls under emulation, against the goldens
	@cd tests && "$(HOST)" -m icount.measure $(if $(UPDATE),--update)

cycles: setup build  ## model the cycles of main loops and whole calls on nine cores, against the goldens
	@cd tests && "$(PYTHON)" -m emulation.setup cycles
	@cd tests && "$(HOST)" -m cycles $(if $(UPDATE),--update)

recall: setup build  ## how many of 20,000 sentences' nearest a search finds, and its instructions; PLOT=file.svg draws both
	@PYTHONPATH=tests "$(HOST)" -m recall.measure $(if $(PLOT),--plot "$(PLOT)")

docs:    ## make the site of pages, kernels and functions: .arm64/docs/index.html
	@cd tests && "$(PYTHON)" -m emulation.setup docs
	@cd tests && "$(HOST)" -m docs.make

wheels: setup        ## build the wheels of every system and the source into dist/, check and try them
	@cd tests && "$(HOST)" -m wheels.make

lint: setup          ## ruff, mypy, and checks of the workflows
	@"$(HOST)" -m ruff check .
	@"$(HOST)" -m ruff format --check .
	@"$(HOST)" -m mypy
	$(if $(WORKFLOWS),@"$(HOST)" -m check_jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS))
	$(if $(WORKFLOWS),@"$(ZIZMOR)" --offline --no-progress --quiet $(WORKFLOWS))

clean:   ## remove what was built (rm -rf .arm64 removes what was set up)
	rm -rf pyint8dot/lib tests/support/lib dist .mypy_cache .pytest_cache .ruff_cache .benchmarks .hypothesis
