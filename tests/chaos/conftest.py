"""Faults while real servers run. The long ones are marked `chaos` and belong to `make test-chaos`."""
