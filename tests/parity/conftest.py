"""Parity tests run for each build of the native loops that this machine can run."""

import pytest

from avatar import ops
from avatar.ops._backend import native

BUILDS = ("portable", "avx2", "avx512")


@pytest.fixture(params=BUILDS)
def build(request, monkeypatch):
    """Force one instruction set; skip where it was not built or the processor lacks it."""
    if native() is None:
        pytest.skip(f"compiled operators are missing: {ops.describe()['mend']}")
    monkeypatch.setenv("AVATAR_OPS_ISA", request.param)
    found = ops.describe()["instruction_set"]
    if found != request.param:
        pytest.skip(f"this machine has no {request.param}, it has {found}")
    return request.param
