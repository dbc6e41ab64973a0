"""`python -m benchmarks gpu`: the pack on one GPU, with models of full size and random weights."""
