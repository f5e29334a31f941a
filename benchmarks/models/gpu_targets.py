"""GPUs that programs are compiled for, and how fast they are taken to be.

XLA needs the left part of each row to compile for a GPU that is not there; the right part is for
estimates. Numbers are NVIDIA's: the CUDA C++ Programming Guide's table of compute capabilities
(registers, threads, shared memory) and the data sheets of H200, H100 SXM, L40S, GeForce RTX 4090
and 5090 (architecture white papers, dense rates with float32 sums) and Jetson AGX Thor.
"""

from __future__ import annotations

from dataclasses import dataclass

BANDWIDTH_SHARE, RATE_SHARE = 0.9, 0.71
"""What a program gets of a data sheet's numbers: an H200 was seen to copy 4.3 TB/s of 4.8, and to
multiply bfloat16 at 700 TFLOP/s of 989."""
LAUNCH_S = 2e-6
"""From one kernel of a CUDA graph to the next one, as is usual on the large GPUs; an assumption."""
CACHE_FACTOR = 2.5
"""How much faster the second-level cache is than the memory; an assumption."""


@dataclass(frozen=True)
class Target:
    """A GPU.

    Attributes:
        name: as NVIDIA writes it.
        capability: of its kind, major and minor.
        cores: streaming multiprocessors.
        threads: per core.
        shared: bytes of shared memory, per core and per block.
        cache: bytes of the second-level cache.
        clock: GHz.
        memory: bytes.
        sheet_bandwidth: bytes per second.
        sheet_rate: bfloat16 operations per second, dense, summed in float32.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    threads: int
    shared: tuple[int, int]
    cache: int
    clock: float
    memory: int
    sheet_bandwidth: float
    sheet_rate: float

    @property
    def bandwidth(self) -> float:
        """Bytes per second that a program gets."""
        return BANDWIDTH_SHARE * self.sheet_bandwidth

    @property
    def rate(self) -> float:
        """Operations per second that a program gets."""
        return RATE_SHARE * self.sheet_rate

    @property
    def description(self) -> str:
        """XLA's ``GpuTargetConfigProto``, as text."""
        major, minor = self.capability
        # these have their matrix instructions in the accelerated variant alone
        variant = " feature_extension: ACCELERATED_FEATURES" if major in (10, 11) else ""
        return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor}{variant} }}
  core_count: {self.cores}
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: {self.threads}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_core: {self.shared[0]}
  shared_memory_per_block_optin: {self.shared[1]}
  l2_cache_size: {self.cache}
  clock_rate_ghz: {self.clock}
  memory_bandwidth: {int(self.sheet_bandwidth)}
  device_memory_size: {self.memory}
  driver_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 13 }}
device_description_str: "{self.name}"
"""


_KIB, _MIB, _GB = 1024, 1024**2, 10**9
_LARGE = (228 * _KIB, 227 * _KIB)
_SMALL = (100 * _KIB, 99 * _KIB)

TARGETS = {
    "h200": Target(
        "NVIDIA H200", (9, 0), 132, 2048, _LARGE, 50 * _MIB, 1.98, 141 * _GB, 4.8e12, 989e12
    ),
    "h100": Target(
        "NVIDIA H100 SXM", (9, 0), 132, 2048, _LARGE, 50 * _MIB, 1.98, 80 * _GB, 3.35e12, 989e12
    ),
    "l40s": Target(
        "NVIDIA L40S", (8, 9), 142, 1536, _SMALL, 96 * _MIB, 2.52, 48 * _GB, 0.864e12, 362e12
    ),
    "rtx4090": Target(
        "NVIDIA RTX 4090", (8, 9), 128, 1536, _SMALL, 72 * _MIB, 2.52, 24 * _GB, 1.008e12, 165e12
    ),
    "rtx5090": Target(
        "NVIDIA RTX 5090", (12, 0), 170, 1536, _SMALL, 96 * _MIB, 2.41, 32 * _GB, 1.792e12, 210e12
    ),
    "thor": Target(
        "NVIDIA Jetson Thor",
        (11, 0),
        20,
        2048,
        _LARGE,
        32 * _MIB,
        1.57,
        128 * _GB,
        0.273e12,
        250e12,
    ),
}
