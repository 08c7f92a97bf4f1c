# `make help` (or bare `make`) lists what there is to make: the words after `##`.
# An active virtual or conda environment is used; otherwise .venv is made from the lock.
PYTHON ?= python3.11
# Every line goes through a shell: make 3.81, which macOS has, looks a plain command up in the PATH
# that it was started with, whatever is exported below.
SHELL := /bin/bash
# conda's base is left alone. $(value ...): a `$` in a path is no variable.
ACTIVE := $(or $(value VIRTUAL_ENV),$(if $(filter base,$(value CONDA_DEFAULT_ENV)),,$(value CONDA_PREFIX)))
# Exported, and used as "$$DFT_ENVIRONMENT": a path may hold spaces, quotes, `$` and `#`.
export DFT_ENVIRONMENT := $(or $(ACTIVE),$(CURDIR)/.venv)
export PATH := $(DFT_ENVIRONMENT)/bin:$(value PATH)
# This clone's code, whichever clone the environment was made by.
export PYTHONPATH := $(CURDIR)/src
export PYTHONNOUSERSITE := 1
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

STOP := bash -c 'echo "make: $$0" >&2; exit 1'
# torch comes first, by its version: among files that a hash allows pip would pass over a local CPU
# build. --no-deps: the locks are complete, but for what a platform's own torch asks for (CUDA on Linux).
PIP := python -m pip install -q --disable-pip-version-check
LOCKED := $(PIP) --require-hashes --no-deps

.PHONY: help repro test verify lab data environment photos ray world art format notebooks lock clean clone

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

repro: data  ## rerun the study; PROFILE=smoke: at another size; PUBLISH=1: kept in results/
ifdef PROFILE
	python -m dft_lib.runner.profiles "$$PROFILE" $(if $(PUBLISH),--publish)
else
	dvc repro
endif

test: data  ## everything that is checked
	ruff check .
	ruff format --check .
	mypy
	pytest

verify: environment  ## recompute every hash of data.dvc and the locks; say what is damaged
	python -m dft_lib.runner.verify

lab: data  ## JupyterLab on the notebooks
	jupyter lab --LabApp.default_url=/lab/tree/notebooks

data: clone environment  ## the environment, and data/ (art, tiny model, raters) from store/
	dvc pull -r store data.dvc || $(STOP) "see above: where data/ differs from data.dvc, \`dvc checkout -f data.dvc\` puts back what belongs there; where store/ is damaged, \`git checkout store\` does"

environment:  ## packages from requirements.lock, into the active environment or .venv
	@case "$$PYTHONPATH$$DFT_ENVIRONMENT" in *:*) $(STOP) "a colon in the path of the clone or of its environment ($$PWD) would end it in PATH and PYTHONPATH: move it to a folder without one" ;; esac
	@test -x "$$DFT_ENVIRONMENT/bin/python" || $(PYTHON) -m venv "$$DFT_ENVIRONMENT" || \
	  $(STOP) "$(PYTHON) could make no environment: install Python 3.11 or say where it is (make PYTHON=/path/to/python3.11)"
	@python -I src/dft_lib/runner/environment.py
	@cat requirements.lock pyproject.toml | cmp -s - "$$DFT_ENVIRONMENT/.dft-installed" || { set -ex; \
	  $(PIP) --no-deps "$$(sed -n 's/^\(torch==[0-9.]*\).*/\1/p' requirements.lock)"; \
	  $(LOCKED) -r requirements.lock; \
	  $(PIP) --no-build-isolation -e .; \
	  cat requirements.lock pyproject.toml > "$$DFT_ENVIRONMENT/.dft-installed"; }

clone:
	@test -z "$$(git rev-parse --show-cdup || echo no)" || \
	  $(STOP) "this folder is no git clone of its own (a downloaded archive?), which DVC, profiles and tests need: use \`git clone\`, or say \`git init && git add .\` here"

photos: environment  ## packages with the weights of the photograph raters (75 MB)
	$(LOCKED) -r requirements-photos.lock

ray: environment  ## Ray, for `engine: ray`
	$(LOCKED) -r requirements-ray.lock

# glibc: keep freed memory, as the notebook runner sets it for its kernels
world: export MALLOC_MMAP_THRESHOLD_ := 1000000000
world: export MALLOC_TRIM_THRESHOLD_ := 1000000000
world: export MALLOC_TOP_PAD_ := 268435456
world: data  ## rebuild data/ (hours)
	dvc repro world/dvc.yaml
	python -m dft_lib.world.build publish
	dvc add -q data
	dvc push -r store data.dvc

art: environment  ## download the emoji art again, into scratch/art
	python -m dft_lib.world.art --world world/emoji --out scratch/art

format: environment  ## put code and notebooks into the form that `make test` asks for
	ruff check --fix .
	ruff format .
	$(MAKE) notebooks

notebooks: environment  ## update the .ipynb beside each .py
	jupytext --quiet --to ipynb --update notebooks/*.py
	jupyter nbconvert --log-level WARN --clear-output --inplace notebooks/*.ipynb

# Hashes of all files of a release, so of all platforms; by uv, which is no part of the environment.
# torch: PyTorch's own CPU wheel for Linux too, which PyPI does not have.
TORCH_CPU := 6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
PINS = sed -n 's/^\([A-Za-z0-9][^ +]*==[^ +]*\).*/\1/p'
HASHED = uv pip compile -q --no-config --no-deps --generate-hashes --no-header --no-annotate \
  --python "$$DFT_ENVIRONMENT/bin/python" -

lock: environment  ## write the locks: pins of this environment, and hashes (needs uv)
	@command -v uv > /dev/null || $(STOP) "this needs uv: python -m pip install uv"
	mkdir -p scratch
	@set -e -o pipefail; for lock in requirements requirements-photos requirements-ray; do \
	  sed '/^#/!d' $$lock.lock > scratch/$$lock.lock; \
	  if [ $$lock = requirements ]; then \
	    python -m pip freeze --all --exclude-editable --exclude pip --exclude uv --exclude dft-lib \
	      $(addprefix --exclude ,$(shell sed -n 's/==.*//p' requirements-photos.lock requirements-ray.lock)); \
	  else cat $$lock.lock; fi | $(PINS) | $(HASHED) \
	    | awk '{ print } /^torch==/ { print "    --hash=sha256:$(TORCH_CPU) \\" }' >> scratch/$$lock.lock; \
	  mv scratch/$$lock.lock $$lock.lock; done

clean:  ## remove what the study made (not data/, not DVC's cache)
	rm -rf scratch runs code synthetic models evaluation real
