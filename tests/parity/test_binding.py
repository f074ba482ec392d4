"""Bound and blended splats against their float64 reference."""

import pytest
import torch

from avatar.ops import binding
from avatar.ops.binding import Blend, Rest, Seats, Surface, bind_gaussians
from avatar.ops.gaussians import triangle_frames
from avatar.ops.rotation import axis_angle_to_matrix

NAMES = ("vertices", "offset", "turn", "log_scale", "opacity", "colour", "basis", "weights", "extra")


def ball(rings: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices and faces of a ball of 9 cm: triangles of 1 cm in every direction."""
    u, v = torch.meshgrid(torch.linspace(0, 6, rings + 1), torch.linspace(0.2, 2.9, rings + 1), indexing="ij")
    points = torch.stack([u.cos() * v.sin(), v.cos(), u.sin() * v.sin()], -1).reshape(-1, 3) * 0.09
    corner = (torch.arange(rings)[:, None] * (rings + 1) + torch.arange(rings)).reshape(-1)
    faces = [corner[:, None] + torch.tensor(o) for o in ([0, 1, rings + 1], [1, rings + 2, rings + 1])]
    return points, torch.cat(faces)


def scene(splats: int, terms: int, dtype: torch.dtype = torch.float32, live: bool = True):
    """A ball that was moved, bent and grown, with random splats; the same numbers for every dtype."""
    generator = torch.Generator().manual_seed(splats + terms)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    points, faces = ball()
    rest_size = triangle_frames(points, faces)[2]
    moved = (points * torch.tensor([1.2, 0.9, 1.1]) + 0.002 * normal(*points.shape)) @ axis_angle_to_matrix(normal(3)).T
    moved[:4] = (moved[:4] - moved[0]) * 8  # grows beyond the bound
    seats = Seats(
        torch.randint(0, len(faces), (splats,), generator=generator),
        torch.softmax(normal(splats, 3), -1).to(dtype),
        torch.rand(splats, generator=generator) > 0.3 if live else None,
    )
    rest = (normal(splats, 3), normal(splats, 4), normal(splats, 3) - 6, normal(splats), normal(splats, 3))
    blend = (normal(splats, 13, terms), normal(terms), normal(splats, 13))
    leaves = [t.to(dtype).requires_grad_() for t in (moved, *rest, *blend)]
    surface = Surface(leaves[0], faces, rest_size.to(dtype))
    return leaves, (surface, seats, Rest(*leaves[1:6]), Blend(*leaves[6:]))


def total(parts, *, square: bool = False) -> torch.Tensor:
    return torch.stack([(part.square() if square else part).sum() for part in parts]).sum()


def compared(splats: int, terms: int, **options) -> None:
    live = options.pop("live", True)
    leaves, arguments = scene(splats, terms, live=live)
    true_leaves, true_arguments = scene(splats, terms, torch.float64, live=live)
    found, expected = bind_gaussians(*arguments, **options), bind_gaussians(*true_arguments, **options)
    for name, a, b in zip(found._fields, found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    generator = torch.Generator().manual_seed(3)
    upstream = [torch.randn(o.shape, generator=generator) for o in found]
    gradients = torch.autograd.grad(found, leaves, upstream)
    wanted = torch.autograd.grad(expected, true_leaves, [u.double() for u in upstream])
    for name, a, b in zip(NAMES, gradients, wanted, strict=True):
        assert (a.double() - b).norm() <= 1e-4 * b.norm() + 1e-12, name


@pytest.mark.parametrize("splats", [0, 1, 15, 16, 17, 3000])
@pytest.mark.parametrize("activate", [True, False])
def test_splats_and_gradients_match_the_float64_reference(build, splats, activate):
    compared(splats, 20, activate=activate)


@pytest.mark.parametrize("terms", [0, 1, 3, 4, 8, 16, 17, 33, 64, 70, 150])
def test_any_number_of_terms_is_blended(build, terms):
    compared(50, terms, live=terms % 2 == 0)


def test_gradient_of_the_basis_is_an_outer_product_of_those_of_extra_and_the_weights(build):
    leaves, arguments = scene(40, 5)
    out = bind_gaussians(*arguments)
    basis, extra = torch.autograd.grad(total(out, square=True), [leaves[6], leaves[8]])
    torch.testing.assert_close(basis, extra[:, :, None] * leaves[7])


def test_parts_without_a_gradient_are_left_out(build):
    leaves, (surface, seats, rest, blend) = scene(40, 5)
    with torch.no_grad():
        still = [part.detach() for part in blend[:2]]
    out = bind_gaussians(surface._replace(vertices=surface.vertices.detach()), seats, rest, Blend(*still))
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(out.means.sum(), [leaves[1]]))


def test_result_does_not_depend_on_the_number_of_threads(build):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaves, arguments = scene(9000, 20)
            out = bind_gaussians(*arguments)
            found.append([*out, *torch.autograd.grad(total(out), leaves)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_gradients_of_the_reference_equal_finite_differences():
    leaves, (surface, seats, _, _) = scene(3, 2, torch.float64)
    inputs = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    seats = seats._replace(live=None)
    moving = torch.zeros_like(inputs[0])
    moving[surface.faces[seats.triangle].flatten()] = 1

    def work(*parts):
        vertices = parts[0] * moving + (parts[0] * (1 - moving)).detach()
        return tuple(bind_gaussians(surface._replace(vertices=vertices), seats, Rest(*parts[1:6]), Blend(*parts[6:])))

    assert torch.autograd.gradcheck(work, inputs, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_registered_operator_keeps_the_laws_of_torch_library(build):
    _, (surface, seats, rest, blend) = scene(20, 5)
    for arguments in (
        (*surface, *seats, *rest, *blend, True),
        (*surface, *seats[:2], None, *rest, *blend[:2], None, False),
    ):
        torch.library.opcheck(torch.ops.avatar.bind_gaussians.default, arguments)


def test_operator_compiles_without_a_graph_break():
    _, arguments = scene(20, 5)

    def work(surface, seats, rest, blend):
        return bind_gaussians(surface, seats, rest, blend).means * 2

    compiled = torch.compile(work, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), work(*arguments))


def test_triangles_without_area_and_wild_numbers_give_finite_gradients(build):
    leaves, (surface, seats, rest, blend) = scene(60, 5)
    flat = surface.vertices.detach().clone()
    flat[surface.faces[:, 2]] = flat[surface.faces[:, 0]]
    flat.requires_grad_()
    out = bind_gaussians(surface._replace(vertices=flat), seats, rest, blend)
    gradients = torch.autograd.grad(total(out), [flat, *leaves[1:]])
    assert all(torch.isfinite(t).all() for t in (*out, *gradients))
    large = surface.vertices.detach().mul(1e12).requires_grad_()
    out = bind_gaussians(surface._replace(vertices=large), seats, rest, blend)
    assert all(torch.isfinite(t).all() for t in (*out, *torch.autograd.grad(total(out), [large, *leaves[1:]])))
    wild = rest._replace(log_scale=rest.log_scale * 1e6, opacity=rest.opacity * 1e30, colour=rest.colour * float("inf"))
    assert torch.isfinite(bind_gaussians(surface, seats, wild, blend).opacities).all()


def test_bad_arguments_give_an_error(build):
    _, (surface, seats, rest, blend) = scene(20, 5)
    with pytest.raises(ValueError, match="exist"):
        bind_gaussians(surface, seats._replace(triangle=seats.triangle + 1000), rest, blend)
    with pytest.raises(ValueError, match="exist"):
        bind_gaussians(surface._replace(faces=surface.faces - 1), seats, rest, blend)
    with pytest.raises(ValueError, match="basis has shape"):
        bind_gaussians(surface, seats, rest, blend._replace(weights=torch.zeros(4)))
    with pytest.raises(ValueError, match="turn has shape"):
        bind_gaussians(surface, seats, rest._replace(turn=rest.offset), blend)
    with pytest.raises(ValueError, match="offset is"):
        bind_gaussians(surface, seats, rest._replace(offset=rest.offset.half()), blend)
    with pytest.raises(ValueError, match="live is"):
        bind_gaussians(surface, seats._replace(live=torch.ones(20)), rest, blend)
    assert binding.BASIS_UNITS[9] == 1.0
