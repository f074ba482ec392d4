import pytest
import torch

from avatar.ops.gaussians import triangle_frames
from avatar.ops.mesh import rasterize_mesh

VIEW = {"focal": (100.0, 100.0), "center": (32.0, 32.0), "size": (64, 64)}


def test_triangle_covers_its_analytic_area_with_perspective_correct_coordinates():
    vertices = torch.tensor([[-0.2, -0.2, 1.0], [0.4, -0.4, 2.0], [-0.2, 0.2, 1.0]])
    triangle, barycentric, depth = rasterize_mesh(vertices, torch.tensor([[0, 1, 2]]), **VIEW)
    hit = triangle == 0
    assert abs(int(hit.sum()) - 0.5 * 40 * 40) <= 40
    y, x = hit.nonzero().unbind(1)
    point = torch.stack([(x + 0.5 - 32) / 100, (y + 0.5 - 32) / 100, torch.ones(len(x))], -1) * depth[hit][:, None]
    torch.testing.assert_close(barycentric[hit] @ vertices, point, atol=1e-5, rtol=0)
    torch.testing.assert_close(barycentric[hit].sum(-1), torch.ones(len(x)))
    assert (triangle[~hit] == -1).all() and (depth[~hit] == 0).all()


def test_the_nearer_triangle_wins_from_either_side():
    square = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])
    vertices = torch.cat([torch.cat([square, torch.full((3, 1), z)], 1) for z in (2.0, 1.0)])
    for order in ([3, 4, 5], [5, 4, 3]):
        triangle, _, depth = rasterize_mesh(vertices, torch.tensor([[0, 1, 2], order]), **VIEW)
        assert triangle[32, 32] == 1 and depth[32, 32] == 1


def test_shared_edges_leave_no_cracks():
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, 8), torch.linspace(-0.5, 0.5, 8), indexing="ij")
    vertices = torch.stack([x, y, 1 + 0.1 * x * y], -1).reshape(-1, 3)
    corner = (torch.arange(7)[:, None] * 8 + torch.arange(7)).reshape(-1)
    faces = torch.cat([corner[:, None] + torch.tensor(o) for o in ([0, 1, 8], [1, 9, 8])])
    triangle, _, _ = rasterize_mesh(vertices, faces, **VIEW)
    assert (triangle >= 0).all()


def test_a_floor_that_runs_under_the_camera_is_cut_at_the_near_plane():
    floor = torch.tensor([[-5.0, 0.1, -1.0], [5.0, 0.1, -1.0], [0.0, 0.1, 9.0]])
    triangle, _, depth = rasterize_mesh(floor, torch.tensor([[0, 1, 2]]), **VIEW)
    assert (triangle[:32] == -1).all() and (triangle[40:] == 0).all()
    assert depth[63, 32] == pytest.approx(0.1 * 100 / 31.5, rel=1e-4)


def test_degenerate_hidden_and_empty_meshes_draw_nothing():
    behind = torch.tensor([[-1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [0.0, 1.0, -1.0]])
    line = torch.tensor([[0.0, 0.0, 1.0], [0.1, 0.0, 1.0], [0.2, 0.0, 1.0]])
    broken = torch.full((3, 3), float("nan"))
    face = torch.tensor([[0, 1, 2]])
    for vertices, faces in ((behind, face), (line, face), (broken, face), (behind, face[:0]), (behind[:0], face[:0])):
        triangle, barycentric, depth = rasterize_mesh(vertices, faces, **VIEW)
        assert (triangle == -1).all() and (barycentric == 0).all() and (depth == 0).all()
    assert rasterize_mesh(behind, face, (1, 1), (0, 0), (0, 7))[0].shape == (0, 7)


def test_bad_meshes_are_refused():
    with pytest.raises(ValueError, match=r"vertices 0\.\.3"):
        rasterize_mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 3]]), **VIEW)
    with pytest.raises(ValueError, match="integers"):
        rasterize_mesh(torch.zeros(3, 3), torch.zeros(1, 3), **VIEW)


def test_triangle_frames_are_rigid_and_follow_the_triangle():
    vertices = torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.1, 0.0]], dtype=torch.float64)
    origin, rotation, scale = triangle_frames(vertices, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(origin[0], vertices.mean(0))
    torch.testing.assert_close(rotation[0], torch.eye(3).double())
    assert scale.item() == pytest.approx(0.15)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    moved = triangle_frames(vertices @ turn.T, torch.tensor([[0, 1, 2]]))[1]
    torch.testing.assert_close(moved[0], turn)
