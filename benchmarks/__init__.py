"""What MixGRPO costs and wins against other algorithms, measured on the embedded tiny model: `python -m benchmarks`."""
