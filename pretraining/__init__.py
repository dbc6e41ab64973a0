"""How the embedded tiny model was made. Not needed to use it."""
