"""What a checkpoint says of itself: config.json or GGUF metadata -> ModelSpec. Reads no weights, imports no torch."""

from kvik.modelfile.architectures import SUPPORTED_ARCHITECTURES
from kvik.modelfile.embedded import embedded_model_path
from kvik.modelfile.model_file import ModelFile, open_config, open_model
from kvik.modelfile.quantization import Quantization
from kvik.modelfile.spec import Llama3RopeScaling, ModelSpec, RopeSpec

__all__ = [
    "SUPPORTED_ARCHITECTURES",
    "Llama3RopeScaling",
    "ModelFile",
    "ModelSpec",
    "Quantization",
    "RopeSpec",
    "embedded_model_path",
    "open_config",
    "open_model",
]
