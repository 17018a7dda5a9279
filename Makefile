# Everything a person or CI runs. The first target that needs it makes .venv and installs the lock; later ones are quick.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# With an NVIDIA driver here, what speech needs besides to run on the card.
CARD := $(wildcard /dev/nvidiactl)
LOCK ?= requirements/all.txt $(if $(CARD),requirements/cuda.txt)
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo up migrate test test-fast check lint types imports schemas schemas-check bench lock clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(READY) ## make .venv and install the lock (LOCK=requirements/core.txt: less, as the images do)

# uv is installed into the environment itself, so that nothing outside it is touched or needed.
$(LOCKED): requirements/bootstrap.txt $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed (make PYTHON=/path/to/python3.11); found " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3.11 has no venv module: install python3.11-venv"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/bootstrap.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python $(LOCK)
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## make films, index them, ask, check the answers (VIDEO=path: your own file, KEEP=1: leave it running)
	$(BIN)/eioku demo $(if $(VIDEO),--video "$(VIDEO)") $(if $(KEEP),--keep)

up: $(READY) ## run Eioku on ./data until Ctrl-C
	$(BIN)/eioku up

migrate: $(READY) ## bring the database of EIOKU_DATABASE_URL (or ./data) up to date
	$(BIN)/eioku migrate

# Each process has a Postgres of its own. What runs models or takes long wants the machine for itself.
QUICK := not slow and not ml_asr and not ml_ocr and not ml_torch

test: test-fast ## the whole suite against real Postgres and NATS
	$(BIN)/pytest -m "not ($(QUICK))"

test-fast: $(READY) ## without model runs and other slow tests, in two processes
	$(BIN)/pytest -n 2 --dist loadfile -m "$(QUICK)"

check: lint types imports schemas-check test ## everything CI checks

lint: $(READY) ## ruff
	$(BIN)/ruff check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

imports: $(READY) ## who may import whom
	$(BIN)/lint-imports

schemas: $(READY) ## write schemas/ anew
	$(BIN)/python -m eioku.schemas

schemas-check: $(READY) ## fail when schemas/ is not what the code says
	$(BIN)/python -m eioku.schemas --check

bench: $(READY) ## measure; figures go into benchmarks/README.md
	$(BIN)/python -m benchmarks

COMPILE = $(BIN)/uv pip compile --quiet pyproject.toml --python-version 3.11 --override requirements/overrides.txt --group build
lock: $(LOCKED) ## resolve pyproject.toml into requirements/ anew: everything, then for each image the part it needs
	$(COMPILE) --all-extras --group dev -o requirements/all.txt
	$(COMPILE) -c requirements/all.txt --extra media -o requirements/core.txt
	$(COMPILE) -c requirements/all.txt --extra media --extra scenes --extra faces -o requirements/light.txt
	$(COMPILE) -c requirements/all.txt --extra media --extra asr -o requirements/asr.txt
	$(COMPILE) -c requirements/all.txt --extra media --extra ocr -o requirements/ocr.txt
	echo 'nvidia-cublas-cu12>=12.4' | $(BIN)/uv pip compile --quiet - --python-version 3.11 -o requirements/cuda.txt
	$(COMPILE) -c requirements/all.txt --extra media --extra yolo --extra embed -o requirements/torch.txt

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
