# make demo: set up, train the embedded tiny model through a real ComfyUI, show what it made.
# make bench: what MixGRPO costs and wins against other algorithms on the tiny model; an interrupted one goes on.
# make test: all tests. Set COMFYUI_DIR to use your own ComfyUI instead of the one that set-up fetches.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export COMFYUI_DIR

.PHONY: setup demo bench test lint tiny-model

setup:
	$(PYTHON) scripts/setup.py

demo: setup
	$(RUN) scripts/demo.py

bench: setup
	$(RUN) -m benchmarks

test: setup lint
	$(RUN) -m pytest

lint: setup
	$(RUN) -m ruff check .

tiny-model: setup
	$(RUN) -m pretraining
