"""Scorers on other hosts: who may be asked, how requests survive what networks do, and any scorer behind HTTP."""
