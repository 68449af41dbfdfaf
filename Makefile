# Two commands do everything on a fresh machine with Python 3.11, git and make: `make run`, `make test`.
.PHONY: setup run test lint format bench clean

PYTHON := .venv/bin/python
TINY := checkpoints/tiny
PORT := 7887

setup:
	@scripts/setup.sh

$(TINY): | setup
	@$(PYTHON) scripts/make_tiny_checkpoint.py $@

run: setup $(TINY)
	@$(PYTHON) scripts/run.py --port $(PORT)

test: setup
	@$(PYTHON) -m pytest

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

bench: setup $(TINY)
	@$(PYTHON) scripts/bench.py

clean:
	rm -rf .venv checkpoints *.egg-info
