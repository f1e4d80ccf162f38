# make demo       set up and show the main job               make test      set up and pass the tests
# make bench      print the speed tables [MODEL=folder]      make test-all  slow tests too
# make bench-all  all of benchmarks/, an hour and more
# make fuzz       damage files of every kind [KIND=images SEED=0 TRIES=100]
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev

.PHONY: demo test test-all fuzz lint format bench bench-all clean

# what users have; torch comes first, so that the constraint decides which build of it
$(CORE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hoiclip needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

# the other backends, the tests and the linters besides
$(DEV): $(CORE)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(CORE)
	$(BIN)/hoiclip demo

test: $(DEV)
	$(BIN)/pytest -m 'not slow'

test-all: $(DEV)
	$(BIN)/pytest

fuzz: $(DEV)
	$(BIN)/python tests/fuzz/campaign.py $(addprefix --kind ,$(KIND)) $(addprefix --seed ,$(SEED)) $(addprefix --tries ,$(TRIES))

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell src tests docs README.md CONTRIBUTING.md CHANGELOG.md

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

GIVEN := $(if $(MODEL),--model $(MODEL))
ANY_MODEL := $(addprefix benchmarks/,folder.py sizes.py int8.py bfloat16.py double_precision.py)
OTHERS := $(filter-out $(ANY_MODEL) $(addprefix benchmarks/,exported.py training_step.py near_copies.py),$(wildcard benchmarks/*.py))
bench: $(DEV)
	$(BIN)/hoiclip bench $(GIVEN) --backends torch,compile,onnx,openvino --precisions fp32,bf16,int8
	$(BIN)/python benchmarks/exported.py $(GIVEN)
	$(BIN)/python benchmarks/training_step.py

bench-all: bench
	for table in $(ANY_MODEL); do $(BIN)/python $$table $(GIVEN) || exit 1; done
	for table in $(OTHERS); do $(BIN)/python $$table || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
