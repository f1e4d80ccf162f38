# make demo    set up and show the main job                 make test      set up and pass the tests
# make bench   print the speed tables [MODEL=folder]        make test-all  slow tests too
# make fuzz    damage files of every kind [KIND=images SEED=0 TRIES=100]
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
DEV := $(VENV)/.dev

.PHONY: demo test test-all fuzz lint format bench clean

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

TABLES := $(addprefix benchmarks/,exported.py sizes.py int8.py folder.py bfloat16.py double_precision.py)
OTHER_TABLES := $(filter-out $(TABLES) benchmarks/near_copies.py,$(wildcard benchmarks/*.py))
bench: $(DEV)
	$(BIN)/hoiclip bench $(addprefix --model ,$(MODEL)) --backends torch,compile,onnx,openvino --precisions fp32,bf16,int8
	for table in $(TABLES); do $(BIN)/python $$table $(if $(MODEL),--model $(MODEL)) || exit 1; done
	for table in $(OTHER_TABLES); do $(BIN)/python $$table || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
