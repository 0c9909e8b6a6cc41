# Every target sets up what it needs: a fresh clone wants Python 3.11 or newer and `make`, nothing else.
#   make run [ARGS="--port 9000"] · make test [ARGS="-k promotion"] · make lock [ARGS=--upgrade]

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := run
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
ARGS ?=
SYSTEM ?= tests/system
CLUSTER ?= tests/cluster
BENCHES ?= $(filter-out bench/soak.py,$(wildcard bench/[a-z]*.py))

.PHONY: run example-review example-chatbot test test-system test-cluster test-clients test-ops test-storms prove soak mutate check format lock bench clean

run: $(VENV)/.run ## Serve on 127.0.0.1:8484
	@exec $(BIN)/refrain serve $(ARGS) # exec: a signal must reach the server, not a shell around it

example-review: $(VENV)/.run ## Serve examples/review: three reviewers, one verdict
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec examples/review/run

example-chatbot: $(VENV)/.run ## Serve examples/chatbot: a chatbot with three tools
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec examples/chatbot/run

test: $(VENV)/.dev ## Unit, contract, integration and architecture tests
	@$(BIN)/python -m pytest tests --ignore=tests/system --ignore=tests/cluster \
		--ignore=tests/clients --ignore=tests/ops $(ARGS)

test-system: $(VENV)/.dev ## The real program, driven from outside
	@scripts/system-packages
	@$(BIN)/python -m pytest $(SYSTEM) $(ARGS)

test-cluster: $(VENV)/.dev ## Several gateways on one Redis, with faults between them; at most five minutes
	@scripts/system-packages
	@$(BIN)/python -m pytest $(CLUSTER) -m "not storm" $(ARGS)

test-clients: $(VENV)/.dev ## SDKs, EventSources, LiteLLM, and the live page in Chromium; sets up what they need
	@scripts/clients-setup
	@.venv-clients/bin/python -m pytest tests/clients $(ARGS)

test-ops: $(VENV)/.dev ## The dashboard and the rules with a real Prometheus; the image's steps in a chroot (root)
	@scripts/prometheus-packages
	@$(BIN)/python -m pytest tests/ops $(ARGS)

test-storms: $(VENV)/.dev ## The long ones: thousands of requests, kills and restarts at random
	@scripts/system-packages
	@$(BIN)/python -m pytest tests/cluster -m storm $(ARGS)

prove: $(VENV)/.dev ## 20,000 random histories of the pipeline against a plain model; prints its seeds
	@PROVE_EXAMPLES=$${PROVE_EXAMPLES:-20000} $(BIN)/python -m pytest tests/proofs/test_state_machine.py -s $(ARGS)

mutate: $(VENV)/.dev ## Small changes to the core, one at a time: does a test notice?
	@PYTHONHASHSEED=0 nice -n 10 $(BIN)/python -m scripts.mutate $(ARGS)

soak: $(VENV)/.dev ## Twenty minutes of mixed load, judged at rest; ARGS="--minutes 20 --workers 2"
	@$(BIN)/python bench/soak.py $(ARGS)

check: $(VENV)/.dev ## Everything that can be said without running it
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev ## Rewrite to the house style
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

lock: $(VENV)/.dev ## Pin requirements/*.in with hashes; ARGS=--upgrade for new versions
	@$(LOCK) $(ARGS) --output-file requirements/run.txt requirements/run.in requirements/build.in
	@$(LOCK) $(ARGS) --output-file requirements/dev.txt requirements/dev.in

bench: $(VENV)/.dev ## Every measurement in bench/, or those in BENCHES
	@for script in $(BENCHES); do echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

clean: ## Leave only what is in the repository
	@rm -rf $(VENV) .venv-clients .venv-litellm tests/clients/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is touched last, so that a set-up that was interrupted is taken up again.
$(VENV)/.made: scripts/make-venv
	@scripts/make-venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.txt pyproject.toml
	@echo "Installing what the gateway needs (requirements/run.txt)"
	@$(PIP) install --require-hashes --requirement requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "Installing what tests and checks need (requirements/dev.txt)"
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@touch $@
