# `make book` builds and serves the book, `make test` tests everything; each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILDER := $(BIN)/python -m builder
export PYTHONPATH := book

.PHONY: book test check sizes record env lab clean

book: env          ## build the book and serve it (SERVE=0: only build; PORT=8000; JOBS=n)
	@$(BUILDER) book $(if $(filter 0,$(SERVE)),--no-serve) $(if $(PORT),--port $(PORT)) $(if $(JOBS),--jobs $(JOBS))

test: env          ## lint, notebooks, package, book in a browser, Colab notebooks in a clean environment (ALL=1: also what has passed as it stands)
	@$(BUILDER) test $(if $(JOBS),--jobs $(JOBS)) $(if $(ALL),--all)

check: env         ## the inner loop: export, lint, the notebooks that changed, the tests of what changed
	@$(BUILDER) check

sizes: env         ## how long each chapter is for its reader
	@$(BUILDER) sizes

record: env        ## run a script in benchmarks/ and keep its result (NAME=heads)
	@$(BIN)/python benchmarks/$(NAME).py

env: $(VENV)/ready ## the environment alone, in .venv

$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "this needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; name another with PYTHON=...")'
	@echo "Setting up $(VENV) (once; PyTorch is large)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lab: env           ## JupyterLab on the notebooks, for contributors (learners: `transformer-course start 02 --notebook`)
	@$(BIN)/jupyter lab nbs

clean:             ## remove what was built; the environment stays
	rm -rf book/_build build *.egg-info
