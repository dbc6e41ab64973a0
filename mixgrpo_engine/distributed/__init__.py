"""Several processes as one trainer: who does what, split weights, calls in lockstep."""
