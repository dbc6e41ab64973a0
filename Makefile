# make demo: set up, train the embedded tiny model through a real ComfyUI, show what it made.
# make test: all tests. Set COMFYUI_DIR to use your own ComfyUI instead of the one that set-up fetches.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
export COMFYUI_DIR

.PHONY: setup demo test lint tiny-model

setup:
	$(PYTHON) scripts/setup.py

demo: setup
	$(RUN) scripts/demo.py

test: setup lint
	$(RUN) -m pytest

lint: setup
	$(RUN) -m ruff check .

tiny-model: setup
	$(RUN) -m pretraining
