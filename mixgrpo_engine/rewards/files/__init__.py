"""The scorers' weights: which there are, download, conversion, reading."""
