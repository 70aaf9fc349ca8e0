"""Peak floating-point operations per second of accelerators, by the name that JAX gives them."""

from __future__ import annotations

_TERA = 1e12

# Teraflops of one JAX device: dense (no sparsity) bfloat16, or float16 on hardware without bfloat16. The
# names match exactly, because variants of one product differ.
_PEAKS = {
    # https://docs.cloud.google.com/tpu/docs/v3, 123 per chip; a JAX device is one of its two cores.
    "TPU v3": 61.5,
    # https://docs.cloud.google.com/tpu/docs/v4
    "TPU v4": 275,
    # https://docs.cloud.google.com/tpu/docs/v5e
    "TPU v5 lite": 197,
    "TPU v5e": 197,
    # https://docs.cloud.google.com/tpu/docs/v5p
    "TPU v5": 459,
    "TPU v5p": 459,
    # https://docs.cloud.google.com/tpu/docs/v6e
    "TPU v6 lite": 918,
    "TPU v6e": 918,
    # https://www.nvidia.com/en-us/data-center/h200/: 1979 with sparsity
    "NVIDIA H200": 989.5,
    # https://www.nvidia.com/en-us/data-center/h100/: 1979 (SXM) and 1671 (NVL) with sparsity; the
    # PCIe card in https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet: 1513
    "NVIDIA H100 80GB HBM3": 989.5,
    "NVIDIA H100 NVL": 835.5,
    "NVIDIA H100 PCIe": 756.5,
    # https://www.nvidia.com/en-us/data-center/a100/
    "NVIDIA A100-SXM4-40GB": 312,
    "NVIDIA A100-SXM4-80GB": 312,
    "NVIDIA A100-PCIE-40GB": 312,
    "NVIDIA A100 80GB PCIe": 312,
    # https://www.nvidia.com/en-us/data-center/l4/: 242 with sparsity
    "NVIDIA L4": 121,
    # https://www.nvidia.com/en-us/data-center/l40s/: 733 with sparsity
    "NVIDIA L40S": 366.5,
    # https://www.nvidia.com/en-us/data-center/v100/, float16
    "Tesla V100-SXM2-16GB": 125,
    "Tesla V100-SXM2-32GB": 125,
    # https://www.nvidia.com/en-us/data-center/tesla-t4/, float16
    "Tesla T4": 65,
}


def peak_flops(device_kind: str) -> float | None:
    """Return the peak floating-point operations per second of one device; None if unknown.

    Example:
        >>> peak_flops("TPU v4"), peak_flops("cpu")
        (275000000000000.0, None)
    """
    peak = _PEAKS.get(device_kind)
    return None if peak is None else peak * _TERA
