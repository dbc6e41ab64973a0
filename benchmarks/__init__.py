"""What MixGRPO costs and wins against other algorithms: `python -m benchmarks`; `python -m benchmarks gpu` on a GPU."""
