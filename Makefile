# make quickstart | make test | make docs | make venv; EXTRA=cuda12|cuda13|tpu|torch|fonts adds an extra, as in: make quickstart EXTRA=cuda12
RECENT := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(RECENT)' 2>/dev/null && echo $$p && break; done)
EXTRA ?=
VENV := .venv
INSTALLED := $(VENV)/.installed-dev$(addprefix -,$(EXTRA))

.PHONY: venv quickstart test docs sky
venv: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'make: no Python >= 3.11 found; name one with make PYTHON=/path/to/python3' >&2; exit 2; }
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { echo 'make: no Python environment in $(VENV); remove what is there' >&2; exit 2; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev$(addprefix $(shell echo ,),$(EXTRA))]'
	@touch $@

quickstart: venv
	$(VENV)/bin/mdp quickstart --workdir runs/quickstart

test: venv
	$(VENV)/bin/python -m pytest -q -n 2 --dist loadfile

docs: venv
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	@echo 'open site/index.html'

# SkyPilot in an environment of its own, for the tests that give it the files of launch/sky.
sky: .venv-sky/.installed
.venv-sky/.installed:
	$(PYTHON) -m venv .venv-sky
	.venv-sky/bin/python -m pip install --quiet --disable-pip-version-check 'skypilot>=0.14,<0.15'
	@touch $@
