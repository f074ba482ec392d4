"""The field: rays taken back into the neutral pose, cells that are left out, what no picture shows, and distilling."""

from dataclasses import replace

import pytest
import torch

from avatar.core import MotionFrame, RenderRequest
from avatar.errors import InputError
from avatar.events import Done
from avatar.face import arkit
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.models.avatar_model import AvatarModel
from avatar.models.field_head import FieldConfig, FieldHead
from avatar.models.field_net import EncodingConfig, NetConfig
from avatar.models.field_shell import WITH_HEAD, WITH_TORSO, Shell, ShellConfig
from avatar.models.field_upkeep import FieldUpkeep, OccupancyConfig
from avatar.models.field_warp import slid
from avatar.models.gaussian_head import GaussianConfig
from avatar.models.gaussian_view import View
from avatar.recipes import RECIPES, recipe
from avatar.train.config import SamplingConfig, TrainConfig
from avatar.train.dataset import Dataset
from avatar.train.distil import Lessons, distil
from avatar.train.loop import take_step, train
from avatar.train.session import Session
from tests.contract import toy

SMALL = FieldConfig(
    encoding=EncodingConfig(levels=6, log2_rows=13, finest=128), net=NetConfig(hidden=16), code=4, motion_hidden=8,
    occupancy=OccupancyConfig(every=4, first=0.2),
)  # fmt: skip
CONFIG = TrainConfig(
    name="toy", head=SMALL, steps=90, views=4, threads=1, report_every=10, checkpoint_every=25,
    sampling=SamplingConfig(crop=48, crop_share=1.0, coarse=0.0),
)  # fmt: skip
NONE = torch.zeros(0, 3)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return toy.workspace(tmp_path_factory.mktemp("field"), frames=20, size=48)


@pytest.fixture(scope="module")
def trained(workspace) -> AvatarModel:
    return AvatarModel.load(train(workspace.root, CONFIG))


def begun(workspace, config: TrainConfig = CONFIG) -> tuple[Session, Dataset]:
    data = Dataset(workspace, load_track(workspace.path("track.safetensors")), config)
    return Session.begin(PersonalRig.load(workspace.path("rig.safetensors")), data, config, "key"), data


def still(**changes: torch.Tensor) -> MotionFrame:
    motion = toy.motion().frame(7)
    return replace(motion, expression=torch.zeros(52), neck=torch.zeros(3), **changes)


def test_a_rigid_head_takes_rays_back_by_its_own_pose():
    rig, motion, camera = toy.rig(), still(), toy.camera(32)
    rays = Shell(rig, torch.zeros(len(rig.neutral)), ShellConfig()).posed(motion, torch.zeros(6)).rays(
        camera, None, [NONE, NONE]
    )[0]  # fmt: skip
    assert len(rays) > 100
    row, column = rays.pixel // 32, rays.pixel % 32
    way = torch.stack([(column + 0.5 - 16) / 51.2, (row + 0.5 - 16) / 51.2, torch.ones(len(rays))], 1)
    pose = motion.T_world_head
    for side, end in ((0, rays.origin), (1, rays.origin + rays.direction)):
        known = (rays.depth[:, side, None] * way - pose[:3, 3]) @ pose[:3, :3]
        torch.testing.assert_close(end, known, atol=2e-5, rtol=0)


def test_a_point_of_an_opened_mouth_goes_back_to_where_it_is_when_shut():
    rig = toy.rig()
    shell = Shell(rig, torch.zeros(len(rig.neutral)), ShellConfig())
    wide = torch.zeros(52)
    wide[arkit.INDEX["jawOpen"]] = 1.0
    posed = shell.posed(replace(still(), expression=wide), torch.zeros(6))
    rays = posed.rays(toy.camera(64), None, [NONE, NONE])[0]
    # Where a ray's height is zero it is on the surface: back in the neutral pose that point is on the neutral surface.
    at = (rays.height[:, 0] / (rays.height[:, 0] - rays.height[:, 1]))[:, None]
    points = rays.origin + at * rays.direction
    shares = torch.distributions.Dirichlet(torch.ones(3)).sample((60,))
    surface = (rig.neutral[rig.faces][:, None] * shares[..., None]).sum(2).flatten(0, 1)
    assert torch.cdist(points, surface).amin(1).max() < 0.005  # points of a triangle are some millimetres apart
    fixed = Shell(rig, torch.zeros(len(rig.neutral)), ShellConfig(follows_face=False))
    stays = fixed.posed(replace(still(), expression=wide), torch.zeros(6)).rays(toy.camera(64), None, [NONE, NONE])[0]
    assert not torch.equal(stays.depth, rays.depth)


def test_what_no_picture_shows_is_closed_and_what_is_outside_is_empty(workspace):
    session, _ = begun(workspace)
    behind = toy.camera(48)
    pose = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    pose[2, 3] = 1.24  # as far behind the head as the camera is in front of it
    behind = replace(behind, T_world_camera=pose)
    with torch.no_grad():
        out = session.backbone.eval().render(RenderRequest(camera=behind, motion=still()))
        away = session.backbone.render(RenderRequest(camera=behind.crop(0, -400, 20, 20), motion=still()))
    assert out.alpha[16:26, 20:28].min() > 0.9 and out.alpha[:4].max() < 0.1 and out.alpha[:24, :4].max() == 0
    assert away.alpha.max() == 0 and away.rgb.max() == 0


def test_training_leaves_cells_out_and_explains_frames_that_it_never_saw(workspace, trained):
    session, data = begun(workspace)
    head = trained.backbone
    assert isinstance(head, FieldHead) and trained.meta.kind == "field"
    before, after = (int(h.facts()["cells"]) for h in (session.backbone, head))
    assert after < 0.9 * before
    track = load_track(workspace.path("track.safetensors"))
    start, errors = AvatarModel(session.backbone.eval(), trained.plate, trained.meta), [0.0, 0.0]
    for number in workspace.json("split.json")["test"]:
        for i, avatar in enumerate((start, trained)):
            out = avatar.render(RenderRequest(camera=track.camera, motion=track.motion.frame(number)))
            errors[i] += float((out.rgb - data.picture(number)).abs().mean())
    assert errors[1] < 0.6 * errors[0]


def test_cells_in_the_air_that_no_picture_showed_are_left_out_once_pictures_show_nothing_new(workspace):
    session, data = begun(workspace)
    upkeep, head = session.upkeep, session.backbone
    assert isinstance(upkeep, FieldUpkeep) and isinstance(head, FieldHead)
    height = head.space.cells.height
    none = torch.zeros(len(height), dtype=torch.bool)
    assert upkeep._kept(none).all()
    upkeep._settled = True
    assert upkeep._kept(~none).all() and torch.equal(upkeep._kept(none), height < 0.003)
    session.backbone.train()
    for step in range(3):
        take_step(session, data.sample(step), step)
    met = upkeep.to_tensors()["met"].bool()
    assert 100 < met.sum() < len(height)


def test_what_hangs_in_front_of_the_surface_is_penalised_and_pulled_back(workspace):
    session, data = begun(workspace)
    session.backbone.train()
    sample = data.sample(0)
    out = session.backbone.render(RenderRequest(camera=sample.camera, motion=sample.motion))
    high = replace(out, aux={**out.aux, "height": torch.full_like(out.aux["height"], 0.01)})
    low = replace(out, aux={**out.aux, "height": torch.zeros_like(out.aux["height"])})
    loss = session.upkeep.before_backward(0, high)
    assert loss.item() > 0 and session.upkeep.before_backward(0, low).item() == 0
    (gradient,) = torch.autograd.grad(loss, out.aux["weights"])
    assert (gradient >= 0).all() and gradient.max() > 0


def test_hair_beside_the_rig_is_looked_for_and_goes_with_its_part():
    rig, motion, size = toy.rig(), toy.motion().frame(0), 48
    alpha = torch.zeros(size, size)
    alpha[5:, 8:40] = 1.0  # much wider than the head, and as wide as the shoulders
    view = View(
        rgb=torch.zeros(size, size, 3), alpha=alpha, labels=torch.full((size, size), 7, dtype=torch.uint8),
        camera=toy.camera(size), motion=motion,
    )  # fmt: skip
    head = SMALL.begin(rig, [view], toy.motion())
    owners = head.space.owner[head.space.occupied]
    assert (owners == WITH_HEAD).sum() > 100 and (owners == WITH_TORSO).sum() > 10
    turned = motion.T_world_head.clone()
    turned[0, 3] += 0.05
    pieces = [
        head.shell.posed(m, torch.zeros(6)).rays(toy.camera(size), None, head.space.beside)[3]
        for m in (motion, replace(motion, T_world_head=turned))
    ]
    columns = [float((rays.pixel % size).float().mean()) for rays in pieces]
    assert columns[1] > columns[0] + 2  # 5 cm are 6 px


def test_where_the_field_is_empty_the_backing_closes_the_person_inside_of_the_outline(workspace):
    session, data = begun(workspace)
    head = session.backbone.eval()
    assert isinstance(head, FieldHead)
    view = data.views(1)[0]
    asked = RenderRequest(camera=view.camera, motion=view.motion)
    with torch.no_grad():
        head.encoding.tables[0].fill_(1.0)
        head.net.base.fill_(-1.0)  # type: ignore[operator]  # the sum of all features says that nothing is anywhere
        out = head.render(asked)
        assert out.alpha[20:26, 22:26].min() > 0.99 and out.alpha[view.alpha < 0.02].max() == 0
        away = (out.rgb - view.rgb)[20:26, 22:26].abs().mean()
        assert away < 0.15, "in the colours of the pictures"
        middle = head.render(replace(asked, pixels=torch.tensor([[23, 24]])))
        torch.testing.assert_close(middle.rgb[0], out.rgb[23, 24])
        head.train()
        assert head.render(asked).alpha.max() < 0.1, "while it learns the field stands alone"


def test_pictures_are_made_of_cells_that_had_a_part_in_one(workspace):
    session, data = begun(workspace)
    head = session.backbone.train()
    assert isinstance(head, FieldHead)
    for step in range(1, 25):
        take_step(session, data.sample(step), step)
    space = head.space
    assert 0 < space.lit.sum() < space.occupied.sum() and not (space.lit & ~space.shown).any()
    loaded = FieldHead.from_tensors(head.to_tensors(), head.rig)
    assert int(loaded.space.lit.sum()) == int(space.lit.sum())
    asked = RenderRequest(camera=toy.camera(32), motion=toy.motion().frame(3))
    with torch.no_grad():
        here, there = (h.render(asked).aux["samples"] for h in (head.eval(), loaded))
        assert here == pytest.approx(there, rel=0.01)


def test_a_slid_picture_is_the_same_and_says_which_way_its_parts_should_go():
    across = torch.linspace(-3, 3, 41).expand(41, 41)
    bump = torch.exp(-across.square() - across.T.square())[..., None]
    flow = torch.zeros(41, 41, 2, requires_grad=True)
    picture = slid(bump, flow)
    assert torch.equal(picture, bump)
    (picture - bump.roll(2, 1).roll(-1, 0)).square().sum().backward()
    assert flow.grad is not None
    right, down = (-flow.grad).sum((0, 1)).tolist()
    assert right > 0 > down and right / -down == pytest.approx(2, rel=0.2)


def test_motion_shifts_the_surface_to_where_pictures_show_it(trained, workspace):
    _, data = begun(workspace)
    head = FieldHead.from_tensors(trained.backbone.to_tensors(), trained.rig).train()
    assert head.warp is not None
    head.conditioning.noise = 0.0
    basis = head.warp.basis.zero_().requires_grad_(True)
    motion, way = still(), torch.tensor([0.004, 0.0, 0.0])
    elsewhere = motion.T_world_head.clone()
    elsewhere[:3, 3] += way
    with torch.no_grad():
        head.eval()
        shown = head.render(RenderRequest(camera=data.camera, motion=replace(motion, T_world_head=elsewhere)))
        head.train()
    code = head.conditioning(motion)[0].detach()
    optimizer = torch.optim.Adam([basis], lr=0.05)
    for _ in range(40):
        out = head.render(RenderRequest(camera=data.camera, motion=motion))
        ((out.rgb - shown.rgb).square().sum() + (out.alpha - shown.alpha).square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    face = trained.rig.skin[:, 0] > 0.9
    moved = head.warp(code)[face].mean(0) @ motion.T_world_head[:3, :3].T
    assert moved[0].item() == pytest.approx(0.004, abs=0.0015) and moved[1].abs() < 0.0015


def test_a_field_that_was_saved_before_motion_shifted_its_surface_is_still_read(trained):
    tensors = {k: v for k, v in trained.backbone.to_tensors().items() if not k.startswith("warp.")}
    head = FieldHead.from_tensors(tensors, trained.rig)
    assert head.warp is not None and head.warp.basis.abs().max() == 0


def test_a_resumed_field_has_the_cells_and_the_tables_of_the_saved_one(workspace, tmp_path):
    first, data = begun(workspace)
    first.backbone.train()
    for step in range(30):
        take_step(first, data.sample(step), step)
    first.step = 30
    first.save(tmp_path / "saved.safetensors")
    second, _ = begun(workspace)
    assert second.resume(tmp_path / "saved.safetensors") and second.step == 30
    asked = RenderRequest(camera=toy.camera(32), motion=toy.motion().frame(3))
    with torch.no_grad():
        a, b = (s.backbone.eval().render(asked) for s in (first, second))
    assert torch.equal(a.rgb, b.rgb) and a.aux["samples"] == b.aux["samples"]
    torch.testing.assert_close(first.upkeep.to_tensors()["level"], second.upkeep.to_tensors()["level"])


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("field/")])
def test_every_recipe_of_a_field_takes_a_step(name, workspace):
    config = recipe(name)
    config = replace(config, shrink=1, views=2, sampling=replace(config.sampling, crop=16))
    session, data = begun(workspace, config)
    session.backbone.train()
    before = [p.detach().clone() for g in session.backbone.parameter_groups()[:2] for p in g["params"]]
    _, image, parts = take_step(session, data.sample(3), 3)
    after = [p for g in session.backbone.parameter_groups()[:2] for p in g["params"]]
    assert image.shape == (16, 16, 3) and parts["loss"] > 0
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) >= len(before) - 2


def test_damaged_weights_are_refused(trained):
    tensors = trained.backbone.to_tensors()
    for missing in ("coat", "config", "net.base", "at"):
        with pytest.raises(InputError, match="build the avatar again"):
            FieldHead.from_tensors({k: v for k, v in tensors.items() if k != missing}, trained.rig)
    with pytest.raises(InputError, match="unknown key"):
        text = torch.tensor(list(b'{"sizes": 1}'), dtype=torch.uint8)
        FieldHead.from_tensors({**tensors, "config": text}, trained.rig)
    with pytest.raises(InputError, match="another rig"):
        FieldHead.from_tensors(tensors, toy.rig(9))


def test_a_field_has_no_splats(trained):
    with pytest.raises(InputError, match="not made of Gaussians"):
        trained.backbone.pose(toy.motion().frame(0))


def test_distilling_learns_the_field_and_says_what_it_lost(workspace, trained, tmp_path):
    pupil = replace(CONFIG, name="gaussian/toy", head=GaussianConfig(splats=1200, basis=4, hidden=8), steps=80)
    heard = []
    lost = distil(workspace.root, tmp_path / "splats", pupil, heard.append)
    model = AvatarModel.load(tmp_path / "splats")
    assert model.meta.kind == "gaussian" and len(model.backbone.pose(toy.motion().frame(0)).means)
    assert lost.kept_psnr > 24 and lost.pupil_psnr > lost.teacher_psnr - 3
    assert isinstance(heard[-1], Done) and heard[-1].facts["kept_psnr"] == lost.kept_psnr
    assert AvatarModel.load(workspace.path("avatar")).meta.kind == "field"


def test_lessons_are_asked_from_aside_and_repeat(workspace, trained):
    _, data = begun(workspace)
    lessons = Lessons(data, trained)
    samples = [lessons.sample(step) for step in range(8)]
    moved = [not torch.equal(s.camera.T_world_camera, toy.camera().T_world_camera) for s in samples]
    assert any(moved) and not all(moved)
    assert all(torch.equal(s.rgb, lessons.sample(step).rgb) for step, s in enumerate(samples))


def test_distilling_into_the_same_kind_or_over_the_teacher_is_refused(workspace, trained, tmp_path):
    with pytest.raises(InputError, match="of kind 'field' already"):
        distil(workspace.root, tmp_path / "again", CONFIG)
    with pytest.raises(InputError, match="name another folder"):
        distil(workspace.root, workspace.path("avatar"), CONFIG)
