# Two commands do everything on a fresh machine with Python 3.11, git and make: `make run`, `make test`.
.PHONY: setup run test unit lint format bench demo-report clean

PYTHON := .venv/bin/python
TINY := checkpoints/tiny/config.json
PORT := 7887

setup:
	@scripts/setup.sh

$(TINY): scripts/make_tiny_checkpoint.py | setup
	@rm -rf $(@D)
	@$(PYTHON) scripts/make_tiny_checkpoint.py $(@D)

run: setup
	@$(PYTHON) scripts/run.py --port $(PORT)

test: setup
	@$(PYTHON) -m pytest

unit: setup
	@$(PYTHON) -m pytest -q tests/unit

lint: setup
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

format: setup
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

bench: setup $(TINY)
	@$(PYTHON) scripts/bench.py --model $(dir $(TINY))

demo-report: setup
	@mkdir -p build
	@$(PYTHON) scripts/demo_report.py --out build/demo-report.json

clean:
	rm -rf .venv checkpoints build *.egg-info
