# make demo: set up, train the embedded tiny model through a real ComfyUI, show what it made.
# make bench: what MixGRPO costs and wins against other algorithms on small models; an interrupted one goes on.
# make test: all tests, in JOBS processes: 4, which keep two cores busy, since they wait much; each wants 3 GB of memory.
# make faults: kills (N of them at random moments), disk failures, hostile requests and graphs, load; about an hour
# make templates: workflows/ anew, from the settings, the cards, and workflows/api and workflows/layout.
# Set COMFYUI_DIR to use your own ComfyUI instead of the one that set-up fetches.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
JOBS ?= 4
N ?= 1000
export COMFYUI_DIR

.PHONY: setup demo bench test faults lint templates tiny-model

setup:
	$(PYTHON) scripts/setup.py

demo: setup
	$(RUN) scripts/demo.py

bench: setup
	$(RUN) -m benchmarks

test: setup lint
	$(RUN) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

faults: setup
	$(RUN) -m tests.faults --kills $(N)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	@mkdir -p .cache/mypy-path && ln -sfn ../.. .cache/mypy-path/mixgrpo_pack
	$(RUN) -m mypy
	$(RUN) -m scripts.web check

templates: setup
	$(RUN) -m scripts.card_templates
	$(RUN) -m scripts.make_template

tiny-model: setup
	$(RUN) -m pretraining
