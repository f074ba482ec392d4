# make setup | demo | test | check | cuda-check | sanitize | bench      (all from a fresh clone, on a machine without a GPU)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NATIVE := $(shell find cuda_ext -name '*.cpp' -o -name '*.h' -o -name '*.cu' 2>/dev/null)

.PHONY: setup demo test check cuda-check sanitize bench format clean

setup: $(READY)

# torch goes first and pinned, so that nothing else pulls another build of it.
$(VENV)/.packages: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt --editable '.[preprocess,bfm,parser,demo,viewer,dev]'
	touch $@

$(READY): $(VENV)/.packages setup.py $(NATIVE)
	$(BIN)/python setup.py --quiet build_ext --inplace
	$(BIN)/avatar doctor
	touch $@

demo: $(READY)
	$(BIN)/avatar demo --out demo

# Two at a time, each with one thread; the viewer's page last and alone, as its tests compare clocks.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n 2 --dist loadfile --ignore tests/e2e/test_viewer_page.py
	$(BIN)/python -m pytest -rs tests/e2e/test_viewer_page.py

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	@files='$(NATIVE)'; test -z "$$files" || $(BIN)/clang-format --dry-run --Werror $$files
	$(BIN)/python -m pytest tests/house

cuda-check: $(READY)
	$(BIN)/python -m tests.perf.cuda_check

# The tests of the kernels, on a build that stops at the first wrong access or undefined operation.
sanitize: $(READY)
	$(BIN)/python -m tests.perf.sanitize

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

bench: $(READY)
	$(BIN)/python -m tests.perf.ops

clean:
	rm -rf $(VENV) build dist demo avatar/_ops*.so *.egg-info
