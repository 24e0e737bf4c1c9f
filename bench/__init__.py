"""Measurements of a running kvik, from outside: start, memory, throughput. `python -m bench` runs them all."""
