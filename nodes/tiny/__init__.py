"""The embedded tiny model as a node."""
