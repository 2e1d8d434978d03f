# Every target does all of its own set-up: on a fresh machine with Python 3.11, `make demo` is the first command.

PYTHON ?= python3.11
VENV   ?= .venv
PYTEST_ARGS ?=
ARGS ?=
SEEDS ?= 1000
FROM ?= 0
MONEY_SEEDS ?= 1000000
ROUNDS ?= 200

bin := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-kubernetes check format bench chaos sim money-sim money-kill lock servers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=$(PYTHON)  VENV=$(VENV)  PYTEST_ARGS=  (for example: make test PYTEST_ARGS='-k cooldown')"

demo: $(VENV)/.run ## Watch an alert become an action and be put right, on this machine, in about a minute
	@$(bin)/remediator demo $(ARGS)

test: $(VENV)/.dev servers check ## Install what the tests need, then check and run all of them
	$(bin)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-kubernetes: $(VENV)/.dev ## The Kubernetes levers on a real cluster (KUBECONFIG=/path of an administrator)
	@test -f "$(KUBECONFIG)" || { echo 'write KUBECONFIG=/path: docs/how-to/test-on-kubernetes.md' >&2; exit 1; }
	REMEDIATOR_KUBECONFIG="$(KUBECONFIG)" $(bin)/python -m pytest tests/integrations/kubernetes/test_conformance.py $(PYTEST_ARGS)

check: $(VENV)/.dev ## Style, types and layers, without running anything
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports --no-logo

format: $(VENV)/.dev ## Sort imports and apply the safe corrections of the linter
	$(bin)/ruff check --fix .

bench: $(VENV)/.dev ## Measure intake, reaction time, memory and start-up beside a bare server
	$(bin)/python -m tests.bench

chaos: $(VENV)/.dev servers ## Ten minutes of faults on three replicas (ARGS='--minutes 2 --seed 7')
	$(bin)/python -m tests.chaos $(ARGS)

sim: $(VENV)/.dev ## Seeded histories of the whole core under faults (SEEDS=100000 FROM=0; SEEDS=1 tells one)
	$(bin)/python -m tests.simulation --from $(FROM) --seeds $(SEEDS) $(ARGS)

money-sim: $(VENV)/.dev ## A million seeded disasters of payments (MONEY_SEEDS=1000000 FROM=0)
	$(bin)/python -m tests.money $(MONEY_SEEDS) $(FROM)

money-kill: $(VENV)/.dev ## The service killed while it pays, on a real virtual machine of Solana (ROUNDS=200)
	$(bin)/python -m tests.money.kill $(ROUNDS)

lock: $(VENV)/.dev ## Pin the dependencies of pyproject.toml anew (LOCK_ARGS=--upgrade for newest versions)
	scripts/lock $(bin)/python $(LOCK_ARGS)

servers: # The real servers that the tests talk to
	@scripts/test-servers

clean: ## Remove the virtual environment and everything the tools keep
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a running Remediator needs, the project itself, and what builds it.
$(VENV)/.run: pyproject.toml requirements/run.lock requirements/build.lock scripts/venv
	@scripts/venv $(PYTHON) $(VENV) requirements/run.lock requirements/build.lock
	@touch $@

# What the tests and tools need on top. It waits for .run, so that both never install at once.
$(VENV)/.dev: requirements/dev.lock $(VENV)/.run
	@scripts/venv $(PYTHON) $(VENV) requirements/dev.lock
	@touch $@
