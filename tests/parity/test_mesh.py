import pytest
import torch

from avatar import ops
from avatar.ops._backend import native
from avatar.ops.mesh import rasterize_mesh


@pytest.mark.skipif(native() is None, reason="compiled operators are missing")
def test_native_mesh_equals_the_reference_also_across_the_near_plane(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    corners = torch.randn(60, 3, 3, generator=generator) * 0.15 + torch.randn(60, 1, 3, generator=generator) * 0.2
    vertices = corners.reshape(-1, 3) + torch.tensor([0.0, 0.0, 0.35])
    faces = torch.arange(len(vertices)).view(-1, 3)
    assert ((vertices[faces][..., 2] < 0.01).any(1) & (vertices[faces][..., 2] > 0.01).any(1)).sum() > 3
    view = {"focal": (90.0, 80.0), "center": (40.0, 37.5), "size": (77, 90)}
    found = rasterize_mesh(vertices, faces, **view)
    monkeypatch.setenv("AVATAR_OPS", "reference")
    assert ops.describe()["backend"] == "reference"
    expected = rasterize_mesh(vertices, faces, **view)
    assert (found[0] == expected[0]).float().mean() > 0.999
    same = found[0] == expected[0]
    torch.testing.assert_close(found[1][same], expected[1][same], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[2][same], expected[2][same])
