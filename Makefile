# `make demo` and `make test` need nothing but python3.11+ and make; each sets up .venv for itself.
# The embedded server's wheel needs numpy 1.26, which exists for Python 3.11 and 3.12.
FITS := 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	$$python -c $(FITS) 2>/dev/null && echo $$python && break; done)
PHOTO ?=
MINUTES ?= 30
OUT ?= build/demo.png
# Of `make bench`: --quick, --images, --annotations, --movenet.
BENCH ?=
# For `make results`: a name of its list.
PAGE ?=
# For `make mutants`: --count, --seed, --jobs, --only, --out.
MUTANTS ?= --count 500 --seed 1 --jobs 2
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-long check release results results-check mutants bench fuzz docs audit clean

demo: .venv/.demo  ## people found in a picture by a real Triton: make demo PHOTO=mine.jpg
	$(BIN)/tools demo $(PHOTO) --output $(OUT)

test: .venv/.dev  ## every test that a change can break: seven minutes on 2 cores
	$(PYTEST) tests/unit tests/integration

test-long: .venv/.dev  ## the rest - load, leaks, kills, fuzzing, then what measures times: some twenty minutes
	$(PYTEST) tests/long tests/fuzz
	$(BIN)/python -m pytest tests/timed

check: .venv/.dev  ## format, lint, types, unit tests: one to three minutes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy pose_runtime tools/bodypose_tools client/bodypose_client loadtest/bodypose_loadtest
	$(PYTEST) tests/unit -m "not slow"

release: .venv/.dev  ## dist/: wheel, sdist, hashes, bill of materials, licences, notes; of a clean tree
	@$(BIN)/python release.py

results: .venv/.dev  ## what measures each page's records and how long it takes; make results PAGE=NAME does it
	$(BIN)/tools results $(if $(PAGE),measure $(PAGE),list)

results-check: .venv/.dev  ## records of other models, numbers without a record, records of older code
	$(BIN)/tools results check --code

mutants: .venv/.dev  ## do the core's tests notice small changes? some hours
	$(PIP) -e ".[mutants]"
	$(BIN)/python -m tests.mutants.run $(MUTANTS)

fuzz: .venv/.dev  ## decoding and the models' requests under a coverage-guided fuzzer: make fuzz MINUTES=30
	$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES) --out docs/results/fuzz.json

bench: .venv/.dev  ## docs/performance.md from one run of under 20 minutes, on an otherwise idle machine
	$(BIN)/tools benchmark -o docs/results/performance.json $(BENCH)
	$(BIN)/tools benchmark-report docs/results/performance.json -o docs/performance.md --notes docs/performance-notes.md

docs: .venv/.docs  ## the site of the pages and the packages' reference: build/site/index.html
	$(BIN)/python docs/site.py build/pages
	$(BIN)/zensical build --strict -f mkdocs.yml
	@echo "open build/site/index.html; to search in it, $(BIN)/python -m http.server -d build/site"

audit: .venv/.dev  ## known vulnerabilities of the pinned packages, dangerous code; needs a network
	$(PIP) bandit pip-audit
	$(BIN)/bandit -q -lll -r pose_runtime tools client loadtest model_repository
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip

clean:
	rm -rf build dist .venv

.venv/bin/python:
	@$(PYTHON) -c $(FITS) 2>/dev/null || { echo "error: expected Python 3.11 or 3.12," \
		"got $$($(or $(PYTHON),python3) --version 2>&1); run make with PYTHON=/path/to/python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv

.venv/.demo: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[embedded]"
	touch $@

.venv/.docs: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[docs]"
	touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e ".[embedded,demo,train,export,engine,loadtest,dev]"
	touch $@ .venv/.demo
