"""The background process that trains: it boots ComfyUI, executes the cut graph, and hands the models to the engine.

entry.py is the script; run.py the process's life; compat.py all that touches ComfyUI's internals; job.py the work.
"""
