"""Seeding, binding and upkeep of Gaussian heads."""

from dataclasses import replace

import pytest
import torch

from avatar.core import Camera, Region, RenderOutput, RenderRequest
from avatar.models.conditioning import Conditioning
from avatar.models.gaussian_head import GaussianConfig, GaussianHead
from avatar.models.gaussian_seed import seed
from avatar.models.gaussian_upkeep import GaussianUpkeep, UpkeepConfig
from avatar.models.gaussian_view import View
from avatar.ops.gaussians import triangle_frames
from avatar.ops.optimize import SplatAdam
from avatar.train.distil import turned
from tests.contract import toy


def view_of(frame: int, size: int = 48) -> View:
    with torch.no_grad():
        truth, camera, motion = toy.person(), toy.camera(size), toy.motion()
        out = truth.render(RenderRequest(camera=camera, motion=motion.frame(frame)))
    labels = torch.from_numpy(toy.labels(truth.rig, motion, frame, camera, out.alpha))
    return View(rgb=out.rgb, alpha=out.alpha, labels=labels, camera=camera, motion=motion.frame(frame))


def test_seeded_splats_already_look_like_the_person():
    view = view_of(3)
    head = GaussianHead(toy.rig(), seed(toy.rig(), [view, view_of(20)], 2500), Conditioning(2, hidden=4)).eval()
    with torch.no_grad():
        out = head.render(RenderRequest(camera=view.camera, motion=view.motion))
    inside = view.alpha > 0.95
    assert (out.alpha[inside] > 0.8).float().mean() > 0.95
    assert (out.rgb - view.rgb)[inside].abs().mean() < 0.1
    assert out.alpha[view.alpha < 0.01].mean() < 0.05


def test_pixels_beside_the_rig_get_splats_at_their_place_and_colour():
    view = view_of(3)
    rows, columns = slice(2, 8), slice(20, 28)
    view.alpha[rows, columns], view.labels[rows, columns] = 1.0, int(Region.HAIR)
    view.rgb[rows, columns] = torch.tensor([0.9, 0.1, 0.1])
    head = GaussianHead(toy.rig(), seed(toy.rig(), [view], 2500), Conditioning(2, hidden=4)).eval()
    with torch.no_grad():
        out = head.render(RenderRequest(camera=view.camera, motion=view.motion))
    assert out.alpha[3:7, 21:27].min() > 0.7
    assert (out.rgb[3:7, 21:27] - view.rgb[3:7, 21:27]).abs().mean() < 0.1


def test_below_what_a_grazing_look_shows_lies_a_closed_layer_that_the_front_does_not_see():
    view, rig = view_of(3), toy.rig()
    splats = seed(rig, [view, view_of(20)], 20_000)
    posed = rig.posed(view.motion)
    centre, axes = posed[rig.faces].mean(1), triangle_frames(posed, rig.faces)[1]

    def facing_of(camera: Camera) -> torch.Tensor:
        return (axes[..., 2] * torch.nn.functional.normalize(camera.T_world_camera[:3, 3] - centre, dim=-1)).sum(-1)

    facing = facing_of(view.camera)
    below = (splats.shown == 0) & (splats.offset[:, 2] < -0.005) & (facing[splats.triangle] > 0.05)
    band = (rig.regions == Region.SKIN) & (facing > 0.1) & (facing < 0.5)

    def drawn(camera: Camera, raw_opacity: torch.Tensor, raw_colour: torch.Tensor) -> RenderOutput:
        there = replace(splats, raw_opacity=raw_opacity, raw_colour=raw_colour)
        head = GaussianHead(rig, there, Conditioning(2, hidden=4)).eval()
        with torch.no_grad():
            return head.render(RenderRequest(camera=camera, motion=view.motion))

    for angle in (0.7, -0.7):
        aside = turned(view.camera, view.motion, angle)
        seen = band & (facing_of(aside) > 0.4)
        alone = drawn(aside, torch.where(below, splats.raw_opacity, -9.0), splats.raw_colour)
        column, row = aside.project(centre[seen]).long().unbind(1)
        assert len(row) > 15 and alone.alpha[row, column].quantile(0.1) > 0.9
    marked = torch.where(below[:, None], torch.tensor([-4.0, 4.0, -4.0]), splats.raw_colour)
    front, plain = (drawn(view.camera, splats.raw_opacity, colour).rgb for colour in (marked, splats.raw_colour))
    assert (front - plain).abs().mean() < 0.01


def test_splats_follow_their_triangle_rigidly():
    rig = toy.rig()
    head = GaussianHead(rig, seed(rig, [], 400), Conditioning(2, hidden=4)).eval()
    head.offset.data.normal_(0, 0.5)
    motion = toy.motion().frame(0)
    turn = torch.tensor([[0.0, -1, 0, 0.1], [1, 0, 0, 0.2], [0, 0, 1, 0.3], [0, 0, 0, 1]])
    with torch.no_grad():
        here, there = head.pose(motion), head.pose(replace(motion, T_world_head=turn @ motion.T_world_head))
    torch.testing.assert_close(there.means, here.means @ turn[:3, :3].T + turn[:3, 3], atol=1e-5, rtol=0)
    torch.testing.assert_close(there.log_scales, here.log_scales, atol=1e-4, rtol=0)


def test_conditioning_is_deaf_to_motion_beyond_the_training_range():
    conditioning = Conditioning(4, hidden=8).eval()
    conditioning.fit(toy.motion())
    frame = toy.motion().frame(0)
    far = [conditioning(replace(frame, neck=torch.tensor([x, 0.0, 0.0])))[0] for x in (5.0, 50.0)]
    torch.testing.assert_close(far[0], far[1])


@pytest.mark.parametrize(("seconds", "left"), [(1, 1.0), (6, 1.0), (64, 0.316)])
def test_with_more_film_the_network_learns_with_less_noise(seconds: int, left: float):
    config = GaussianConfig(splats=100, basis=2, hidden=4, input_noise=0.3)
    motion = toy.motion(round(seconds * toy.motion().fps))
    head = GaussianHead.from_views(toy.rig(10), [], motion, config)
    assert head.conditioning.noise == pytest.approx(0.3 * left, rel=0.01)


def trained_once() -> tuple[GaussianHead, torch.optim.Optimizer, RenderOutput]:
    config = GaussianConfig(
        splats=300, seeded=0.8, basis=3, hidden=8, upkeep=UpkeepConfig(every=1, first=0, last=1, share=0.1)
    )
    head = GaussianHead.from_views(toy.rig(10), [], toy.motion(), config)
    optimizer = torch.optim.Adam(head.parameter_groups())
    out = head.render(RenderRequest(camera=toy.camera(32), motion=toy.motion().frame(0)))
    upkeep = head.upkeep(10)
    ((out.rgb - 0.3).square().mean() + upkeep.before_backward(0, out)).backward()
    optimizer.step()
    upkeep.pull += torch.rand(300)
    upkeep.seen += 1
    return head, optimizer, out


def test_splitting_reuses_invisible_rows_and_forgets_only_their_optimiser_state():
    head, optimizer, out = trained_once()
    upkeep = head.upkeep(10)
    before = {id(p): p.detach().clone() for p in head.splat_parameters()}
    memory = optimizer.state[head.offset]["exp_avg"].clone()
    upkeep.pull[10:20] = 5.0
    upkeep.seen += 1
    moved = upkeep.after_step(1, out, optimizer)["splats_moved"]
    changed = (head.offset != before[id(head.offset)]).any(1)
    assert moved == 30 and len(head) == 300
    assert changed[10:20].all() and int(changed[240:].sum()) == 30  # ten parents at least, thirty reused rows
    assert (head.opacity[240:] > -5).sum() == 30
    now = optimizer.state[head.offset]["exp_avg"]
    assert (now[changed] == 0).all()
    torch.testing.assert_close(now[~changed], memory[~changed])


def test_doubling_a_small_splat_leaves_the_picture_nearly_as_it_was():
    request = RenderRequest(camera=toy.camera(32), motion=toy.motion().frame(0))
    changes = []
    for opacity_is_kept in (True, False):
        head, _, _ = trained_once()
        head.log_scale.data.clamp_(max=-7.5)
        with torch.no_grad():
            before = head.eval().render(request)
            head.upkeep(10)._split(torch.arange(40), torch.arange(250, 290))
            if opacity_is_kept:
                head.opacity.data[250:290] = head.opacity.data[:40] = 2.0
            changes.append((head.render(request).rgb - before.rgb).abs().mean())
    assert changes[1] < 0.5 * changes[0]


def test_splats_that_leave_their_reach_or_grow_too_large_cost():
    head, _, out = trained_once()
    upkeep = head.upkeep(10)
    calm = float(upkeep.before_backward(0, out).detach())
    head.offset.data[0] = 30.0
    far = float(upkeep.before_backward(0, out).detach())
    head.log_scale.data[1] = 0.0
    assert far > calm and float(upkeep.before_backward(0, out).detach()) > far


def test_colours_at_a_grazing_angle_go_back_to_what_was_observed_and_nothing_else_does():
    head, optimizer, out = trained_once()
    head.shown[:100], head.shown[100:] = 0.2, 1.0
    keeper = GaussianUpkeep(head, 1000, UpkeepConfig(every=10_000))
    head.colour.data += 1.0
    head.basis.data += 1.0
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    for step in range(1, 400):
        keeper.after_step(step, out, optimizer)
    torch.testing.assert_close(head.colour.detach()[:100], keeper.own[:100], atol=0.01, rtol=0)
    assert head.basis[:100, 10:].abs().max() < 0.1 * before["basis"][:100, 10:].abs().max()
    assert (head.basis[:100, :10] == before["basis"][:100, :10]).all()
    for name in ("colour", "basis"):
        assert (getattr(head, name)[100:] == before[name][100:]).all(), name
    for name in ("offset", "turn", "log_scale", "opacity"):
        assert (getattr(head, name) == before[name]).all(), name


def gradients_of(head: GaussianHead) -> dict[str, torch.Tensor]:
    out = head.render(RenderRequest(camera=toy.camera(32), motion=toy.motion().frame(3)))
    (out.rgb - 0.3).square().sum().backward()
    found = {name: p.grad.clone() for name, p in head.named_parameters() if p.grad is not None}
    head.zero_grad(set_to_none=True)
    return found


def busy_head() -> GaussianHead:
    head, _, _ = trained_once()
    with torch.no_grad():
        head.basis.normal_(0, 0.3)
        head.conditioning.rigid.weight.normal_(0, 0.2)
    head.conditioning.noise = 0.0
    head.zero_grad(set_to_none=True)
    return head.train()


def test_plain_torch_draws_and_learns_the_same(monkeypatch):
    head, found = busy_head(), []
    for wanted in ("", "reference"):
        monkeypatch.setenv("AVATAR_OPS", wanted)
        splats = head.pose(toy.motion().frame(3))
        found.append((splats, gradients_of(head)))
    for name in ("means", "quats", "log_scales", "raw_opacity", "colour"):
        torch.testing.assert_close(*(getattr(f[0], name).detach() for f in found), atol=1e-5, rtol=1e-4)
    for name, gradient in found[0][1].items():
        # Thresholds of the rasteriser fall to the other side at a few pixels.
        assert (gradient - found[1][1][name]).norm() < 0.02 * found[1][1][name].norm() + 1e-9, name


def test_basis_collects_its_gradient_as_an_outer_product_when_asked():
    head = busy_head()
    whole = gradients_of(head)
    ((parameter, outer),) = head.outer_gradients().items()
    rest = gradients_of(head)
    assert parameter is head.basis and "basis" not in rest and outer.terms is not None and outer.rows.grad is not None
    torch.testing.assert_close(outer.rows.grad[:, :, None] * outer.terms, whole["basis"])
    for name, gradient in rest.items():
        torch.testing.assert_close(gradient, whole[name])
    with pytest.raises(RuntimeError, match="zero_grad"):
        gradients_of(head)
    assert not head.eval().pose(toy.motion().frame(0)).means.isnan().any()


def test_splats_that_no_picture_shows_stay_as_they_were_but_may_vanish():
    head = busy_head()
    head.shown[:50] = 0
    found = gradients_of(head)
    for name in ("offset", "turn", "log_scale", "colour", "basis"):
        assert (found[name][:50] == 0).all() and (found[name][50:] != 0).any(), name
    assert (found["opacity"][:50] != 0).any()


def test_rows_without_gradient_keep_their_values_and_their_memory():
    head = busy_head()
    optimizer = SplatAdam(head.parameter_groups(), outer=head.outer_gradients())
    before = {name: p.detach().clone() for name, p in head.named_parameters()}
    found = gradients_of(head)  # clears grad, not the outer product
    for name, parameter in head.named_parameters():
        parameter.grad = found.get(name)
    optimizer.step()
    seen = found["opacity"] != 0
    assert 0 < int(seen.sum()) < len(head)
    for name in ("offset", "opacity", "basis"):
        moved = (getattr(head, name) != before[name]).reshape(len(head), -1).any(1)
        assert not moved[~seen].any() and moved[seen].float().mean() > 0.9, name
    assert (head.conditioning.weights.weight != before["conditioning.weights.weight"]).any()
