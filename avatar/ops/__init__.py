"""Operators: tensors in, tensors out. Each native one has a twin in plain torch that says what it computes."""

from avatar.ops import gaussians, hashgrid, image, mesh, rasterize, raymarch, rotation
from avatar.ops._backend import describe, device, without_gpu

__all__ = [
    "describe", "device", "gaussians", "hashgrid", "image", "mesh", "rasterize", "raymarch", "rotation", "without_gpu",
]  # fmt: skip
