"""Checkpoint files -> named raw tensors. Knows formats and names, no model; nothing is dequantised here."""

from kvik.modelfile import ModelFile
from kvik.modelfile.gguf import read_gguf_header
from kvik.weights.checkpoint import Checkpoint, FileSpan, RawTensor, Shard
from kvik.weights.folder import FolderCheckpoint
from kvik.weights.fp8 import Fp8Checkpoint
from kvik.weights.gguf import GgufCheckpoint
from kvik.weights.quantized import QuantizedCheckpoint

__all__ = ["Checkpoint", "FileSpan", "RawTensor", "Shard", "open_checkpoint"]


def open_checkpoint(model_file: ModelFile) -> Checkpoint:
    """Find and check the weights of an opened model; nothing is read yet.

    Raises ModelFileError, naming file and tensor, for files that are missing, broken, or not to be read (pickles).
    """
    if model_file.format == "hf":
        folder = FolderCheckpoint(model_file.path)
        quantization = model_file.quantization
        if quantization is None:
            return folder
        is_fp8 = quantization.fp8 is not None
        return Fp8Checkpoint(folder, quantization) if is_fp8 else QuantizedCheckpoint(folder, quantization)
    header = model_file.gguf_header or read_gguf_header(model_file.path)
    return GgufCheckpoint(header, model_file.spec)
