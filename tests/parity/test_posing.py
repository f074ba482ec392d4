"""Posing of a rig against its float64 reference."""

import pytest
import torch

from avatar.ops import posing
from avatar.ops.posing import SparseRig, pose_rig, sparse_rig


def random_rig(vertices: int, actions: int = 7) -> SparseRig:
    generator = torch.Generator().manual_seed(vertices)
    moves = torch.randn(actions, vertices, 3, generator=generator) * 0.01
    moves[torch.rand(actions, vertices, generator=generator) > 0.3] = 0
    weights = torch.rand(vertices, 5, generator=generator)
    return sparse_rig(torch.randn(vertices, 3, generator=generator) * 0.1, moves, weights)


def random_motion(actions: int = 7) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(*shape, generator=generator) for shape in ((actions,), (6, 3, 4), (3,))]


def leaves(tensors, dtype=torch.float32):
    return [t.detach().to(dtype).requires_grad_() for t in tensors]


def results(rig, motion, upstream, dtype):
    motion, (neutral, move, weights) = leaves(motion, dtype), leaves((rig.neutral, rig.move, rig.weights), dtype)
    out = pose_rig(SparseRig(neutral, rig.first, rig.action, move.detach(), weights.detach()), *motion)
    return [out.detach(), *torch.autograd.grad(out, [neutral, *motion], upstream.to(dtype))]


@pytest.mark.parametrize("vertices", [0, 1, 15, 16, 17, 5000])
def test_surface_and_gradients_match_the_float64_reference(build, vertices):
    rig, motion = random_rig(vertices), random_motion()
    upstream = torch.randn(vertices, 3, generator=torch.Generator().manual_seed(1))
    found = results(rig, motion, upstream, torch.float32)
    expected = results(rig, motion, upstream, torch.float64)
    torch.testing.assert_close(found[0].double(), expected[0], atol=1e-5, rtol=1e-5)
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert (a.double() - b).norm() <= 1e-4 * b.norm()


def test_sparse_rig_holds_every_displacement_once():
    moves = torch.zeros(3, 4, 3)
    moves[0, 1], moves[2, 1], moves[1, 3, 2] = torch.tensor([1.0, 2, 3]), torch.tensor([0, 0, 1.0]), -1.0
    rig = sparse_rig(torch.zeros(4, 3), moves, torch.zeros(4, 5))
    assert rig.first.tolist() == [0, 0, 2, 2, 3] and rig.action.tolist() == [0, 2, 1]
    assert rig.move.tolist() == [[1, 2, 3], [0, 0, 1], [0, 0, -1]]


def test_result_does_not_depend_on_the_number_of_threads(build):
    rig, motion = random_rig(5000), random_motion()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(results(rig, motion, torch.ones(5000, 3), torch.float32))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_registered_operator_keeps_the_laws_of_torch_library(build):
    torch.library.opcheck(torch.ops.avatar.pose_rig.default, (*random_rig(20), *leaves(random_motion())))


def test_operator_compiles_without_a_graph_break():
    rig, motion = random_rig(20), random_motion()

    def work(expression, transforms, shift):
        return pose_rig(rig, expression, transforms, shift) * 2

    compiled = torch.compile(work, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*motion), work(*motion))


def test_bad_arguments_give_an_error_and_motion_that_is_not_a_number_gives_that(build):
    rig, (expression, transforms, shift) = random_rig(20), random_motion()
    with pytest.raises(ValueError, match="transforms has shape"):
        pose_rig(rig, expression, transforms[:5], shift)
    with pytest.raises(ValueError, match="shift has shape"):
        pose_rig(rig, expression, transforms, shift[:2])
    with pytest.raises(ValueError, match="lists"):
        pose_rig(rig, expression[:3], transforms, shift)
    with pytest.raises(ValueError, match="int32"):
        pose_rig(rig._replace(first=rig.first.long()), expression, transforms, shift)
    with pytest.raises(ValueError, match="lists"):
        pose_rig(rig._replace(first=rig.first + 1), expression, transforms, shift)
    with pytest.raises(ValueError, match="expression is"):
        pose_rig(rig, expression.double(), transforms, shift)
    assert pose_rig(rig, expression * float("nan"), transforms, shift).isnan().any()
    assert posing.JOINTS[-1] == "head"
