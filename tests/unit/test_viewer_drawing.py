"""What the viewer draws: viewpoints, poses, layers, grey where nothing was filmed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.errors import InputError
from avatar.face.arkit import INDEX
from avatar.face.solver import eye_rotation
from avatar.viewer.painter import Painter
from avatar.viewer.posing import FACE, Seen, at_rest, bearing, posed, stood
from avatar.viewer.view import KeyFrame, Look, Pose, View, Viewpoint
from tests.contract import toy


@pytest.fixture(scope="module")
def avatar():
    return toy.avatar(64, 800)


def draw(painter: Painter, pose: Pose | None = None, viewpoint: Viewpoint | None = None, look: Look | None = None):
    rest = at_rest(painter.avatar)
    camera, motion = painter.frame(rest, pose or Pose(), viewpoint or Viewpoint(), 64)
    return painter.paint(camera, motion, look or Look(), None)


def test_the_filmed_viewpoint_and_an_empty_pose_draw_the_avatar_at_rest(avatar) -> None:
    from avatar.core import RenderRequest

    meta = avatar.meta
    camera = stood(meta.camera, Viewpoint(), meta.rest)
    torch.testing.assert_close(camera.T_world_camera, meta.camera.T_world_camera)
    expected = avatar.render(RenderRequest(camera=meta.camera, motion=meta.rest)).rgb
    drawn = torch.from_numpy(draw(Painter(avatar)).pixels).float() / 255
    assert (drawn - expected.clamp(0, 1)).abs().max() < 0.01


@pytest.mark.parametrize("viewpoint", [Viewpoint(yaw=0.8), Viewpoint(pitch=-0.5, yaw=2.0), Viewpoint(distance=2.0)])
def test_the_heads_centre_stays_in_the_picture_whatever_the_orbit(avatar, viewpoint) -> None:
    meta = avatar.meta
    centre = meta.rest.T_world_head[:3, :3] @ torch.tensor(FACE) + meta.rest.T_world_head[:3, 3]
    before, after = meta.camera.project(centre), stood(meta.camera, viewpoint, meta.rest).project(centre)
    torch.testing.assert_close(before, after, atol=1e-2, rtol=0)


def test_an_orbit_to_the_side_is_seen_by_its_bearing(avatar) -> None:
    rest = avatar.meta.rest
    start = bearing(avatar.meta.camera, rest)[0]
    for yaw in (0.5, -0.9):
        found = bearing(stood(avatar.meta.camera, Viewpoint(yaw=yaw), rest), rest)[0]
        assert abs(abs(found - start) - abs(yaw)) < 0.05


def test_sliders_add_to_the_driven_face_and_stay_in_range(avatar) -> None:
    pushed = [0.0] * 52
    pushed[INDEX["jawOpen"]], pushed[INDEX["mouthSmileLeft"]] = 1.0, -1.0
    driven = at_rest(avatar)
    driven = replace(driven, expression=torch.full((1, 52), 0.3))
    frame = posed(avatar, driven, Pose(expression=tuple(pushed)), avatar.meta.camera)
    assert float(frame.expression[INDEX["jawOpen"]]) == 1.0
    assert float(frame.expression[INDEX["mouthSmileLeft"]]) == 0.0
    assert float(frame.expression[INDEX["browInnerUp"]]) == pytest.approx(0.3)


def test_head_sliders_turn_the_head_to_the_persons_left_and_down(avatar) -> None:
    camera, rest = avatar.meta.camera, at_rest(avatar)
    yaw, pitch = bearing(camera, posed(avatar, rest, Pose(), camera))
    left, down = (bearing(camera, posed(avatar, rest, Pose(head=h), camera)) for h in ((0.4, 0, 0), (0, 0.3, 0)))
    assert left[0] - yaw == pytest.approx(-0.4, abs=0.08), "a head turned to its left sees the camera on its right"
    assert down[1] - pitch == pytest.approx(-0.3, abs=0.08)


def test_eyes_that_follow_the_camera_turn_with_it_and_no_further_than_eyes_can(avatar) -> None:
    rest = at_rest(avatar)
    for yaw in (0.3, -0.3):
        camera = stood(avatar.meta.camera, Viewpoint(yaw=yaw), avatar.meta.rest)
        frame = posed(avatar, rest, Pose(follow="camera"), camera)
        T, seat = frame.T_world_head.double().numpy(), camera.T_world_camera[:3, 3].double().numpy()
        way = (seat - T[:3, 3]) @ T[:3, :3] - avatar.rig.eye_pivots.double().numpy()
        look = eye_rotation(frame.gaze.double().numpy()) @ np.array([0.0, 0.0, -1.0])
        np.testing.assert_allclose(look, way / np.linalg.norm(way, axis=1, keepdims=True), atol=1e-4)
    far = stood(avatar.meta.camera, Viewpoint(yaw=1.5), avatar.meta.rest)
    assert posed(avatar, rest, Pose(follow="camera"), far).gaze.abs().max() <= 0.6001


def test_views_that_were_never_filmed_turn_grey_and_only_if_asked(avatar) -> None:
    painter, side = Painter(avatar), Viewpoint(yaw=1.4)
    look = Look(background="white")
    shaded, plain = (
        draw(painter, viewpoint=side, look=look),
        draw(painter, viewpoint=side, look=replace(look, shade=False)),
    )
    spread = [np.ptp(d.pixels.astype(int), axis=2).mean() for d in (shaded, plain)]
    assert draw(painter).unseen == 0 and shaded.unseen == 1
    assert spread[0] < 0.3 * spread[1]


def test_what_a_film_shows_widens_what_counts_as_seen(avatar) -> None:
    moves, camera = toy.motion(), avatar.meta.camera
    seen = Seen.of(camera, moves)
    turns = [bearing(camera, moves.frame(i))[0] for i in range(len(moves))]
    assert seen.yaw[0] < min(turns) + 0.02 and seen.yaw[1] > max(turns) - 0.02


@pytest.mark.parametrize("drawing", ["ellipses", "mesh", "depth", "regions"])
def test_every_layer_draws_something_of_its_own_where_the_person_is(avatar, drawing) -> None:
    painter, look = Painter(avatar), Look(background="#00ff00")
    person, layer = draw(painter, look=look).pixels, draw(painter, look=replace(look, drawing=drawing)).pixels
    assert (layer[0, 0] == [0, 255, 0]).all()
    assert np.abs(person.astype(int) - layer).mean() > 5


def test_a_hidden_part_shows_the_background_and_the_rest_stays(avatar) -> None:
    painter, look = Painter(avatar), Look(background="#00ff00")
    whole, without = draw(painter, look=look).pixels, draw(painter, look=replace(look, hidden=("torso",))).pixels
    assert (without[60, 32] == [0, 255, 0]).all() and not (whole[60, 32] == [0, 255, 0]).all()
    assert np.abs(whole[:36].astype(int) - without[:36]).max() <= 2


def test_a_cut_out_over_a_background_is_the_picture_and_whole_where_nothing_is_transparent(avatar) -> None:
    painter, clear = Painter(avatar), Look(background="transparent")
    camera, motion = painter.frame(at_rest(avatar), Pose(), Viewpoint(), 64)
    cut = painter.cut_out(camera, motion, clear, None).pixels.astype(float) / 255
    assert cut[0, 0, 3] == 0 and cut[30, 32, 3] > 0.95
    white = painter.paint(camera, motion, Look(background="white"), None).pixels / 255
    assert np.abs(cut[..., :3] * cut[..., 3:] + 1 - cut[..., 3:] - white).max() < 0.02
    opaque = painter.cut_out(camera, motion, Look(background="white"), None).pixels
    assert (opaque[..., 3] == 255).all() and np.abs(opaque[..., :3] / 255 - white).max() < 0.01


def test_a_body_turns_with_its_torso_and_a_head_does_not(avatar) -> None:
    painter, rest = Painter(avatar), at_rest(avatar)
    camera = avatar.meta.camera
    still, head, body = (
        posed(avatar, rest, pose, camera) for pose in (Pose(), Pose(head=(0.3, 0, 0)), Pose(body=(0.3, 0, 0)))
    )
    assert bearing(camera, body)[0] == pytest.approx(bearing(camera, head)[0], abs=0.01)
    torso = [painter.avatar.rig.posed(frame)[-20:] for frame in (still, head, body)]
    assert (torso[1] - torso[0]).norm(dim=1).max() < 1e-3 < 0.01 < (torso[2] - torso[0]).norm(dim=1).max()


def test_a_background_that_is_a_path_is_refused(avatar) -> None:
    with pytest.raises(InputError, match="no colour"):
        draw(Painter(avatar), look=Look(background="/etc/passwd"))


def test_a_camera_path_passes_its_key_frames_and_holds_at_its_ends() -> None:
    keys = tuple(
        KeyFrame(seconds=s, viewpoint=Viewpoint(yaw=y, zoom=z)) for s, y, z in ((1, 0, 1), (2, 1, 4), (4, -1, 1))
    )
    view = View(path=keys)
    assert [view.viewpoint_at(s).yaw for s in (0, 1, 2, 4, 9)] == [0, 0, 1, -1, -1]
    assert view.viewpoint_at(1.5) == Viewpoint(yaw=0.5, zoom=2.0)
    with pytest.raises(InputError, match="order"):
        View(path=keys[::-1])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Viewpoint(yaw=math.nan),
        lambda: Viewpoint(zoom=0.0),
        lambda: Pose(head=(2.0, 0, 0)),
        lambda: Pose(expression=(0.0,)),
    ],
)
def test_numbers_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(InputError, match="reload the page"):
        wrong()
