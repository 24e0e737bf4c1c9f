"""Doors that are known under these names elsewhere."""
