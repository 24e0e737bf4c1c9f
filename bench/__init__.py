"""Measurements of kvik from outside, and of its peers beside it. `python -m bench` and `python -m bench.compare`."""
