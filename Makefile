# The book's few verbs. `make book` and `make test` are all that a reader or a tester needs.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p))))
BIN := .venv/bin
READY := .venv/.ready
CHROMIUM := $(firstword $(foreach p,chromium chromium-browser google-chrome,$(shell command -v $(p))))
export PYTHONPATH := book/_ext
.PHONY: book check test colab measure notebooks bench compare gpu lint lock browser clean
.DEFAULT_GOAL := book

# The HTML, warnings as errors, into _build/html. Nothing is executed: outputs come from the stored notebooks.
book: $(READY)
	$(BIN)/jupyter-book build . -W -n --keep-going -q

# Every equation of the book against its entry, without the experiments; or make check LABELS="det-exp:main jose:loss".
check: $(READY)
	$(BIN)/texledger check $(if $(LABELS),--label $(LABELS) --) notebooks/*.md book/*.md

# The packages, their doctests, the notebooks (nbval) and the built site in Chromium, on every core; a notebook or a
# file of tests stays together.
test: $(READY) browser
	$(BIN)/python -m pytest --nbval --numprocesses auto --dist loadscope

# Every cell of every notebook under Colab's versions, in an environment of its own (Python 3.13, 6 GB): half an hour.
colab: $(READY)
	$(BIN)/python tests/on_colab.py $(ARGS)

# What each built page weighs, and what does not fit on a phone.
measure: book
	$(BIN)/python -m gantext_book.measure

# Regenerate NAME.py and NAME.ipynb from NAME.md; execute what changed.
notebooks: $(READY)
	$(BIN)/python -m gantext_book.twins $(ARGS)

# Each script runs its operation's tests first and reports nothing if they fail.
bench: $(READY)
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

# The long comparisons behind the tables of the chapters: hours on two cores; stopped, they go on where they were.
compare: $(READY)
	for script in benchmarks/compare_*.py; do $(BIN)/python $$script || exit 1; done

# Everything that only a GPU can tell, most valuable first, in MINUTES; what is missing (Jupyter, gensim) is left out, so
# any Python with PyTorch will do: make gpu BIN=/usr/bin OUT=results. On a CPU: make gpu ARGS="--device cpu --tiny".
MINUTES ?= 8
OUT ?= _build/gpu
gpu:
	$(BIN)/python benchmarks/gpu.py --minutes $(MINUTES) --out $(OUT) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The environment: everything by hash, except torch, whose wheel differs from machine to machine (CPU, CUDA). The lock
# is complete, so nothing is resolved: what asks for torch would ask for its hash.
$(READY): requirements.lock requirements-torch.lock pyproject.toml texledger/pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gantext needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-torch.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable ./texledger --editable .
	@touch $@

# The site's tests need a browser: install it where we may, else the tests say what is missing.
browser:
ifeq ($(CHROMIUM),)
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	else echo "no Chromium: the site's tests will not run (Debian: apt-get install chromium)"; fi
endif

# Write requirements.lock anew from pyproject.toml; review the difference before committing it.
lock: $(READY)
	$(BIN)/uv pip compile pyproject.toml --extra book --extra site --extra test --extra lint --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet --constraint requirements-torch.lock \
	  --no-emit-package torch $$(grep -oE '^# not here: .*' requirements-torch.lock | cut -d: -f2 | sed 's/[^ ]\+/--no-emit-package &/g') \
	  --output-file requirements.lock

clean:
	rm -rf _build
