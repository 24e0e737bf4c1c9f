"""All flags of `kvik serve`, in the order in which help shows them."""

from __future__ import annotations

from kvik.config.access import AccessConfig
from kvik.config.admission import AdmissionConfig
from kvik.config.args import AsyncEngineArgs
from kvik.config.connections import ConnectionConfig
from kvik.config.flags import Flag, flags_of
from kvik.config.frontend import GENERAL, ServerConfig
from kvik.config.limits import RequestLimits
from kvik.config.not_yet import NOT_YET
from kvik.config.recovery import RecoveryConfig

GROUPS: dict[str, str] = {
    GENERAL: "the process, its log and its end",
    "Frontend": "HTTP, access, templates and what answers hold",
    "RequestLimits": "how far clients can go",
    "AccessConfig": "who may ask what, beside --api-key",
    "ConnectionConfig": "taking over a port, and clients that are too slow",
    "AdmissionConfig": "how much may wait in front of the engine",
    "RecoveryConfig": "when the engine dies or hangs",
    "ModelConfig": "which model, its type, length and names",
    "LoadConfig": "how weights are read",
    "ParallelConfig": "several devices, processes and machines",
    "CacheConfig": "the KV cache",
    "OffloadConfig": "weights outside the device",
    "SchedulerConfig": "what runs when, and how much of it in one step",
    "CompilationConfig": "captured CUDA graphs",
    "KernelConfig": "choice of kernels",
    "AttentionConfig": "choice of attention kernels",
    "MambaConfig": "state space models",
    "MultiModalConfig": "images, video and audio",
    "LoRAConfig": "adapters",
    "StructuredOutputsConfig": "constrained answers, and reasoning parsers",
    "ObservabilityConfig": "metrics and traces",
    "LoggingConfig": "log lines",
    "VllmConfig": "what spans several of these groups",
    "DeviceConfig": "where to compute",
}
"""Title -> what the group is about. The titles are the interface's (`--help=CacheConfig`)."""

MODEL_TAG = Flag(
    "model-tag", "str", None, "folder or .gguf file, given without a flag; wins over --model", GENERAL, is_common=True
)
HELP = Flag(
    "help", "str", None, "common flags; --help=all, --help=GROUP, --help=WORD for others", GENERAL, aliases=("-h",)
)
CONFIG = Flag("config", "str", None, "YAML file of flags; the command line wins", GENERAL, is_common=True)


def serve_flags() -> tuple[Flag, ...]:
    """Every flag of the interface and of kvik's own; `MODEL_TAG` and `HELP` are among them for help's sake."""
    server = [
        *flags_of(ServerConfig, "Frontend"),
        *flags_of(RequestLimits, "RequestLimits"),
        *flags_of(ConnectionConfig, "ConnectionConfig"),
        *flags_of(AdmissionConfig, "AdmissionConfig"),
        *flags_of(RecoveryConfig, "RecoveryConfig"),
        *flags_of(AccessConfig, "AccessConfig"),
    ]
    own = [MODEL_TAG, HELP, CONFIG, *server, *flags_of(AsyncEngineArgs)]
    titles = list(GROUPS)
    return tuple(sorted((*own, *NOT_YET), key=lambda f: (titles.index(f.group), not f.is_supported)))
