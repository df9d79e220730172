"""Published peaks of TPU chips and GPUs, for bounds (planning/costs.py). Rates are of one chip, links in one direction.

Sources: Google's pages of Cloud TPU v4, v5e, v5p and v6e ("system architecture": peak compute, HBM bandwidth,
inter-chip interconnect, data center network of a Pod), of v4's interconnect the paper "TPU v4: An Optically
Reconfigurable Supercomputer" (6 links of 50 GB/s); NVIDIA's data sheets of T4, V100, A10, L4, L40S, A100, H100 and
H200, and the HGX page of B200. Figures "with sparsity" are halved.
"""

from dataclasses import dataclass

GB, TERA = 1e9, 1e12

# At most so much stays on the chip from one operation to the next: the largest on-chip memory of the table (v4: 128 MiB
# of CMEM and 32 MiB of VMEM).
ON_CHIP = 160 * 2**20


@dataclass(frozen=True)
class Peak:
    """What one chip or GPU can do at most.

    Attributes:
      name: as its maker writes it.
      bfloat16: FLOP/s of matrix products of bfloat16.
      float32: FLOP/s of those of float32 as JAX computes them unless told otherwise: on a TPU in one pass of bfloat16,
        on a GPU from Ampere on in TF32.
      memory: bytes of its memory.
      bandwidth: bytes/s of its memory, reading and writing together.
      links: bytes/s that it can send to others of its slice or node.
      network: bytes/s that it can send to other slices; None where it depends on the machine around it.
    """

    name: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    links: float
    network: float | None = None

    def flops(self, dtype: str) -> float:
        """FLOP/s of matrix products.

        Args:
          dtype: "float32", "bfloat16", or "float64", for which the rate of float32 is a bound.
        """
        return self.bfloat16 if dtype == "bfloat16" else self.float32


TPUS = {
    "v4": Peak("TPU v4", 275 * TERA, 275 * TERA, 32 * 2**30, 1228 * GB, 300 * GB),
    "v5e": Peak("TPU v5e", 197 * TERA, 197 * TERA, 16 * 2**30, 819 * GB, 200 * GB, 6.4e12 / 8 / 256),
    "v5p": Peak("TPU v5p", 459 * TERA, 459 * TERA, 95 * 2**30, 2765 * GB, 600 * GB),
    "v6e": Peak("TPU v6e", 918 * TERA, 918 * TERA, 32 * 2**30, 1638 * GB, 400 * GB, 25.6e12 / 8 / 256),
}

# T4 and V100 have no bfloat16: it is computed in float32.
GPUS = {
    "t4": Peak("NVIDIA T4", 8.1 * TERA, 8.1 * TERA, 16 * GB, 320 * GB, 16 * GB),
    "v100": Peak("NVIDIA V100 SXM2", 15.7 * TERA, 15.7 * TERA, 32 * GB, 900 * GB, 150 * GB),
    "a10g": Peak("NVIDIA A10G", 125 * TERA, 62.5 * TERA, 24 * GB, 600 * GB, 32 * GB),
    "l4": Peak("NVIDIA L4", 121 * TERA, 60 * TERA, 24 * GB, 300 * GB, 32 * GB),
    "l40s": Peak("NVIDIA L40S", 362 * TERA, 183 * TERA, 48 * GB, 864 * GB, 32 * GB),
    "a100-40gb": Peak("NVIDIA A100 SXM 40 GB", 312 * TERA, 156 * TERA, 40 * GB, 1555 * GB, 300 * GB),
    "a100-80gb": Peak("NVIDIA A100 SXM 80 GB", 312 * TERA, 156 * TERA, 80 * GB, 2039 * GB, 300 * GB),
    "h100": Peak("NVIDIA H100 SXM", 989 * TERA, 495 * TERA, 80 * GB, 3350 * GB, 450 * GB),
    "h200": Peak("NVIDIA H200 SXM", 989 * TERA, 495 * TERA, 141 * GB, 4800 * GB, 450 * GB),
    "b200": Peak("NVIDIA B200", 2250 * TERA, 1125 * TERA, 180 * GB, 8000 * GB, 900 * GB),
}
