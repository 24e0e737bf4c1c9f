"""A checkpoint of floats -> a folder of the same model quantised. Writes files; runs no model."""

from kvik.convert.folder import OnShard, convert_folder

__all__ = ["OnShard", "convert_folder"]
