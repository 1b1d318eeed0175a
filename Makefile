# `make demo` and `make test` need only Python >= 3.11, git and make: they set up .venv by themselves, with uv where it is
# installed and with venv and pip where it is not. Nothing is installed again until pyproject.toml changes.

VENV   := .venv
PYTHON := $(VENV)/bin/python
LLMOCK := .cache/aimock/node_modules/.bin/llmock
NPM_SDK := .cache/npm-sdk/node_modules/@anthropic-ai/sdk/package.json
comma  := ,
# One process more than there are processors: many tests wait for others that they start.
PARALLEL := --numprocesses $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1) + 1) --dist worksteal

.SILENT:
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types layers schema docs bench bench-samples bench-gateway peers aimock npm-sdk clients lowest clean

help:
	echo "make demo    the main job, offline and without a key"
	echo "make test    every test (ARGS='-k name' for some)"
	echo "make check   lint, types, layers, schema drift, documentation"
	echo "make docs    the documentation, into .cache/site"
	echo "make bench   the overhead over the bare SDK call"
	echo "make bench-samples  what asking a rung several times costs beyond its calls"
	echo "make bench-gateway  what the gateway costs, beside LiteLLM and firstpass (ARGS='--quick')"
	echo "make lowest  every test again, on the lowest versions that pyproject.toml allows"
	echo "make aimock  the independent emulator that one test uses (needs npm)"
	echo "make npm-sdk the npm SDK that some tests use (needs npm)"
	echo "make clients other people's clients that some tests use: pydantic-ai, instructor, LangChain"
	echo "make clean   remove what was installed, built and cached"

demo: $(VENV)/.ready
	$(VENV)/bin/cascade demo

# Without the independent emulator and the npm SDK their tests are skipped, and say so: no npm, or no network, is no reason to
# fail here.
test: $(VENV)/.ready-dev
	! command -v npm >/dev/null || $(MAKE) --keep-going aimock npm-sdk >/dev/null 2>&1 || true
	$(PYTHON) -m pytest $(PARALLEL) $(ARGS)

check: lint types layers schema docs

lint: $(VENV)/.ready-dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

types: $(VENV)/.ready-dev
	$(PYTHON) -m pyright

layers: $(VENV)/.ready-dev
	$(VENV)/bin/lint-imports --no-logo

schema: $(VENV)/.ready-dev
	$(PYTHON) -m cascade.cli policy schema | diff -u policies/policy.schema.json - || { \
	  echo "policies/policy.schema.json is stale: run $(VENV)/bin/cascade policy schema > policies/policy.schema.json" >&2; exit 1; }

# The pages that come from the code must be as the code is; a broken link or reference fails.
docs: $(VENV)/.ready-dev
	$(PYTHON) docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --quiet --strict --config-file .mkdocs.yml

bench: $(VENV)/.ready-dev
	$(PYTHON) benchmarks/overhead.py

bench-samples: $(VENV)/.ready-dev
	$(PYTHON) benchmarks/samples.py

bench-gateway: $(VENV)/.ready-dev
	$(PYTHON) benchmarks/gateway.py $(ARGS)

# The benchmark makes these venvs by itself when they are not there.
peers: $(VENV)/.ready-dev
	$(PYTHON) benchmarks/gateway_servers.py

aimock: $(LLMOCK)

$(LLMOCK):
	$(call npm_install,aimock,@copilotkit/aimock@1)

npm-sdk: $(NPM_SDK)

$(NPM_SDK):
	$(call npm_install,npm-sdk,@anthropic-ai/sdk@1)

# $(call npm_install,FOLDER,PACKAGE): a package from npm, under .cache.
define npm_install
	mkdir -p .cache/$(1)
	npm install --prefix .cache/$(1) --no-save --no-package-lock --no-audit --no-fund --loglevel=error \
	  --fetch-retries=1 --fetch-timeout=30000 $(2) </dev/null
endef

# Each in a venv of its own: they want different versions of the SDK.
clients: .cache/clients/pydantic-ai/.ready .cache/clients/instructor/.ready .cache/clients/langchain/.ready

.cache/clients/pydantic-ai/.ready: PACKAGE := pydantic-ai-slim[anthropic]>=2.68,<3
.cache/clients/instructor/.ready: PACKAGE := instructor[anthropic]>=1.17,<2
.cache/clients/langchain/.ready: PACKAGE := langchain-anthropic>=1.7,<2

.cache/clients/%/.ready: | $(VENV)/.ready-dev
	$(PYTHON) -m venv --clear .cache/clients/$*
	.cache/clients/$*/bin/python -m pip install --quiet '$(PACKAGE)' </dev/null
	touch $@

lowest: $(VENV)/.ready-dev
	rm -rf .cache/lowest
	$(PYTHON) -m venv .cache/lowest
	sed -nE 's/^    "([a-z0-9-]+)>=([0-9.]+).*/\1==\2/p' pyproject.toml > .cache/lowest/constraints.txt
	.cache/lowest/bin/python -m pip install --quiet --constraint .cache/lowest/constraints.txt --editable '.[all,dev]'
	.cache/lowest/bin/python -m pytest $(PARALLEL) $(ARGS)

clean:
	rm -rf $(VENV) .cache dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml
	$(call install,all)
	touch $@

$(VENV)/.ready-dev: pyproject.toml
	$(call install,all$(comma)dev)
	touch $(VENV)/.ready $@

# $(call install,EXTRAS): an editable install with these extras. What the installer says goes into a log, shown if it fails.
define install
	[ -x $(PYTHON) ] || { $(create); }
	echo "Installing cascade and what it needs into $(VENV) (once) ..." >&2
	{ if command -v uv >/dev/null; then uv pip install --python $(PYTHON) --editable '.[$(1)]'; else \
	    $(PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m ensurepip; \
	    $(PYTHON) -m pip install --editable '.[$(1)]'; fi; } >$(VENV)/install.log 2>&1 </dev/null \
	  || { cat $(VENV)/install.log >&2; exit 1; }
endef

PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python

# A Python without ensurepip (Debian's, when python3-venv is not installed) cannot make a venv with pip: the next one is tried.
define create
	if command -v uv >/dev/null; then uv venv --quiet --allow-existing --python '>=3.11' $(VENV); exit; fi; \
	for python in $(PYTHONS); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  "$$python" -m venv $(VENV); exit; \
	done; \
	echo "cascade needs Python 3.11 or newer with venv: none of $(PYTHONS) on PATH is one; install it (or uv) and run make again" >&2; \
	exit 1
endef
