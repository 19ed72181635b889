# Everything lives in .venv. Needed: Python 3.11 or newer; uv is used where it is installed.
#
#   make test ARGS="tests/test_cli.py -x"     PYTHON=python3.12 make demo

PYTHON ?=
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-loaders test-browser lint types bench lock clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: $(READY)  ## build a GRPO, an SFT and a DPO set from demo/rollouts.jsonl
	@PATH="$(CURDIR)/$(BIN):$$PATH" demo/run.sh

test: $(READY)  ## run the tests; ARGS="..." goes to pytest (-n 0: one after another)
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope $(ARGS)

test-loaders: $(READY)  ## load our files with the code of TRL, verl and OpenRLHF (installs them, 2 GB)
	@$(BIN)/python tests/loaders/install.py
	@LOADERS=1 $(BIN)/python -m pytest -n 2 -rs tests/loaders $(ARGS)

test-browser: $(READY)  ## open the report in Debian's Chromium (apt install chromium); SCREENSHOTS=FOLDER keeps pictures
	@$(BIN)/python -m pytest -rs tests/browser $(ARGS)

lint: $(READY)  ## ruff
	@$(BIN)/python -m ruff check .

types: $(READY)  ## mypy, strict
	@$(BIN)/python -m mypy

bench: $(READY)  ## time the recipes; ARGS="..." goes to benchmarks/run.py
	@$(BIN)/python benchmarks/run.py $(ARGS)

lock:  ## write requirements.lock anew; ARGS=--upgrade takes newer releases (needs uv)
	@command -v uv >/dev/null 2>&1 || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --group dev --no-annotate \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements.lock $(ARGS) pyproject.toml

clean:  ## remove .venv and everything that was made
	@rm -rf $(VENV) .loaders .pytest_cache .mypy_cache .ruff_cache .hypothesis demo/out

# The environment is made from scratch whenever what it is made from changes.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

$(READY): requirements.lock pyproject.toml
	@found=; bare=; \
	for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    "$$python" -c '$(NEW_ENOUGH)' >/dev/null 2>&1 || continue; \
	    found="$$python"; \
	    command -v uv >/dev/null 2>&1 && break; \
	    "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 && break; \
	    bare="$$python"; found=; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	    echo "$$bare cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv) or uv" >&2; exit 1; \
	elif [ -z "$$found" ]; then \
	    echo "no Python 3.11 or newer $(if $(PYTHON),in PYTHON=$(PYTHON),found; name one with PYTHON=/path/to/python3)" >&2; exit 1; \
	fi; \
	echo "setting up $(VENV) with $$found"; \
	if command -v uv >/dev/null 2>&1; then \
	    uv venv --quiet --clear --python "$$found" $(VENV) && \
	    uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
	    uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	else \
	    "$$found" -m venv --clear $(VENV) && \
	    $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock && \
	    $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@
