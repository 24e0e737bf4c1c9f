"""The only room that knows instruction sets: a folder per op. Knows no model, no request and not even the shelf.

In each folder `__init__.py` holds the public function, which checks shapes and picks; `reference.py` is plain torch
and runs on any device; `cpu.py` calls `kvik._native` (csrc/, see csrc/table.h) with raw addresses; `triton.py`,
imported when first used, is for GPUs. All are held against `reference.py` by the same tests.
"""
