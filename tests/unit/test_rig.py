"""The baked head: what a person's face must be able to do."""

import time
from math import cos, sin

import pytest
import torch

from avatar.core import MotionFrame, Region
from avatar.errors import InputError
from avatar.face import INDEX, MIRROR, AnnyRig, PersonalRig
from avatar.face.rig import Piece
from avatar.ops.rotation import axis_angle_to_matrix

FLIP = torch.tensor([-1.0, 1, 1])


@pytest.fixture(scope="module")
def rig():
    return AnnyRig.load()


@pytest.fixture(scope="module")
def people(rig):
    """The average head and some others."""
    identities = [torch.zeros(rig.identity_size), *rig.sample(4, seed=5, spread=0.8)]
    return [rig.personal(identity) for identity in identities]


def pose(person, neck=(0.0, 0.0, 0.0), gaze=((0.0, 0.0), (0.0, 0.0)), **coefficients):
    expression = torch.zeros(52)
    for name, value in coefficients.items():
        expression[INDEX[name]] = value
    return person.vertices(expression, torch.tensor(neck), torch.tensor(gaze))


def region_vertices(rig, *regions):
    chosen = torch.isin(rig.regions, torch.tensor([int(r) for r in regions], dtype=torch.uint8))
    return rig.faces[chosen].unique()


def eye_opening(rig, vertices):
    """Mean height (metres) of the gap between the lids' margins, right and left."""
    upper, lower = rig.lids_upper, rig.lids_lower
    return (vertices[lower, 1].mean(-1) - vertices[upper, 1]).mean(1)


def visible_mouth(rig, vertices):
    """Part of the lips' box, seen from the front, where the inside of the mouth is the first thing hit."""
    lips = rig.faces[rig.regions == int(Region.LIPS)]
    inside = rig.faces[rig.regions == int(Region.MOUTH)]
    box = vertices[lips.unique()]
    xs = torch.linspace(float(box[:, 0].min()) * 0.8, float(box[:, 0].max()) * 0.8, 25)
    ys = torch.linspace(float(box[:, 1].min()), float(box[:, 1].max()), 120)
    points = torch.stack(torch.meshgrid(xs, ys, indexing="ij"), -1).reshape(-1, 2)
    skin = first_hit(points, vertices[rig.faces[rig.pieces == int(Piece.SKIN)]])
    return float((first_hit(points, vertices[inside]) < skin - 1e-4).float().mean())


def first_hit(points, triangles):
    """Smallest z of the triangles above each point (x, y); infinite where there is none."""
    near = (triangles[:, :, :2].amin(1) <= points.amax(0)) & (triangles[:, :, :2].amax(1) >= points.amin(0))
    triangles = triangles[near.all(1)]
    a, b, c = triangles.unbind(1)
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    rays = points[:, None] - a[:, :2]
    v = (rays[..., 0] * (c - a)[:, 1] - rays[..., 1] * (c - a)[:, 0]) / area
    w = ((b - a)[:, 0] * rays[..., 1] - (b - a)[:, 1] * rays[..., 0]) / area
    depth = a[:, 2] + v * (b - a)[:, 2] + w * (c - a)[:, 2]
    hit = (v >= 0) & (w >= 0) & (v + w <= 1)
    return torch.where(hit, depth, torch.inf).amin(1)


def test_the_baked_file_loads_in_half_a_second():
    start = time.perf_counter()
    AnnyRig.load()
    assert time.perf_counter() - start < 0.5


def test_every_region_and_piece_is_there_and_the_surface_is_whole(rig):
    assert set(rig.regions.tolist()) == set(range(1, 11))
    assert set(rig.pieces.tolist()) == {int(piece) for piece in Piece}
    assert rig.faces.unique().tolist() == list(range(len(rig.mean)))
    torch.testing.assert_close(rig.skin.sum(1), torch.ones(len(rig.mean)), atol=2e-3, rtol=0)
    assert rig.uv.min() >= 0 and rig.uv.max() <= 1


def test_triangles_face_outwards(rig):
    corners = rig.mean[rig.faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for piece, centre in ((Piece.RIGHT_EYE, rig.pivots_mean[2]), (Piece.LEFT_EYE, rig.pivots_mean[3])):
        eye = rig.pieces == int(piece)
        assert (((corners[eye].mean(1) - centre) * normal[eye]).sum(1) > 0).all()
    scalp = rig.regions == int(Region.HAIR)
    away = ((corners[scalp].mean(1) - torch.tensor([0, -0.05, 0.0])) * normal[scalp]).sum(1)
    assert (away > 0).float().mean() > 0.99, "but for a fold behind the ears"


def test_directed_edges_of_the_skin_meet_once(rig):
    skin = rig.faces[~torch.isin(rig.pieces, torch.tensor([2, 3, 4, 7, 8], dtype=torch.uint8))]
    edges = torch.cat([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    assert len(edges.unique(dim=0)) == len(edges)


def test_the_average_head_is_its_own_mirror_image(rig):
    torch.testing.assert_close(rig.mean[rig.mirror] * FLIP, rig.mean)
    mirrored = rig.actions[list(MIRROR)][:, rig.mirror] * FLIP
    assert (mirrored - rig.actions).norm(dim=-1).max() < 2e-3


def test_heads_have_human_size(rig):
    eyes = (rig.pivots_mean[3] - rig.pivots_mean[2]).norm()
    assert 0.058 < float(eyes) < 0.068
    assert float(rig.pivots_mean[0].norm()) == 0
    assert rig.mean[:, 1].max() > 0.35, "shoulders and chest belong to the bust"


def test_lips_are_closed_when_the_face_rests_and_open_with_the_jaw(rig, people):
    for person in people:
        assert visible_mouth(rig, pose(person)) < 0.005
        assert visible_mouth(rig, pose(person, jawOpen=0.4)) > 0.1


def test_a_blink_closes_the_lids_of_everybody(rig, people):
    for person in people:
        open_by = eye_opening(rig, pose(person))
        closed_by = eye_opening(rig, pose(person, eyeBlinkLeft=1.0, eyeBlinkRight=1.0))
        assert (open_by > 0.004).all()
        assert (closed_by < 0.1 * open_by).all()
        half = eye_opening(rig, pose(person, eyeBlinkLeft=1.0))
        assert half[1] < 0.1 * open_by[1] and half[0] == open_by[0]


def test_jaw_open_lowers_chin_and_lower_teeth_but_not_the_upper(rig, people):
    person = people[0]
    moved = pose(person, jawOpen=1.0) - person.neutral
    assert moved[rig.faces[rig.pieces == int(Piece.LOWER_TEETH)].unique(), 1].mean() > 0.015
    assert moved[rig.faces[rig.pieces == int(Piece.UPPER_TEETH)].unique()].abs().max() < 1e-3
    chin = region_vertices(rig, Region.SKIN)
    chin = chin[(rig.mean[chin, 1] > 0.06) & (rig.mean[chin, 2] < -0.09)]
    assert len(chin) > 10 and moved[chin, 1].min() > 0.01


def test_the_neck_turns_the_torso_and_leaves_the_head(rig, people):
    person = people[0]
    turned = pose(person, neck=(0.0, 0.5, 0.0))
    face = region_vertices(rig, Region.EYES, Region.NOSE, Region.LIPS, Region.BROWS)
    torch.testing.assert_close(turned[face], person.neutral[face])
    torso = region_vertices(rig, Region.TORSO)
    torso = torso[rig.skin[torso, 2] > 0.999]
    # seen from the head, whose face turned towards -x, the torso faces +x: its left shoulder goes back
    left = torso[rig.mean[torso, 0] > 0.12]
    assert (turned[left, 2] > person.neutral[left, 2] + 0.03).all()
    distances = torch.pdist(turned[torso[:200]]) - torch.pdist(person.neutral[torso[:200]])
    assert distances.abs().max() < 1e-3, "the torso stays rigid"


def test_gaze_turns_the_eyeballs_towards_where_it_looks(rig, people):
    person = people[0]
    yaw, pitch = 0.3, -0.2
    looking = pose(person, gaze=((yaw, pitch), (0.0, 0.0)))
    for side, (want_yaw, want_pitch) in enumerate(((yaw, pitch), (0.0, 0.0))):
        ball = person.eye_weights[:, side].nonzero()[:, 0]
        front = ball[person.neutral[ball, 2].argmin()]
        direction = torch.nn.functional.normalize(looking[front] - person.eye_pivots[side], dim=0)
        expected = (sin(want_yaw) * cos(want_pitch), sin(want_pitch), -cos(want_yaw) * cos(want_pitch))
        assert (direction - torch.tensor(expected)).norm() < 0.02
    still = person.eye_weights.sum(1) == 0
    torch.testing.assert_close(looking[still], person.neutral[still])


def test_look_actions_move_lids_and_not_eyeballs(rig):
    ball = rig.eye_weights.sum(1) > 0
    for name in ("eyeLookDownLeft", "eyeLookUpRight", "eyeLookInLeft"):
        assert rig.actions[INDEX[name]][ball].abs().max() == 0
    assert rig.actions[INDEX["eyeLookDownLeft"]].norm(dim=1).max() > 1e-3


def test_a_batch_is_the_same_as_one_at_a_time(people):
    person = people[1]
    expression, neck, gaze = torch.rand(3, 52), 0.3 * torch.randn(3, 3), 0.2 * torch.randn(3, 2, 2)
    together = person.vertices(expression, neck, gaze)
    for i in range(3):
        torch.testing.assert_close(together[i], person.vertices(expression[i], neck[i], gaze[i]), atol=1e-6, rtol=1e-4)


def test_gradients_flow_to_identity_expression_neck_and_gaze_even_at_rest(rig):
    identity, expression = torch.zeros(60, requires_grad=True), torch.zeros(52, requires_grad=True)
    neck, gaze = torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)
    points = rig.landmarks.points(rig.personal(identity).vertices(expression, neck, gaze), rig.faces)
    whole = rig.personal(identity).vertices(expression, neck, gaze)
    (points.square().sum() + whole.pow(3).sum()).backward()
    for leaf in (identity, expression, neck, gaze):
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all() and leaf.grad.abs().sum() > 0


def test_offsets_move_the_face_and_carry_the_eye_pivots(rig):
    offsets = torch.tensor([0.0, 0.001, 0.0]).expand(len(rig.mean), 3)
    moved, plain = rig.personal(torch.zeros(60), offsets), rig.personal(torch.zeros(60))
    torch.testing.assert_close(moved.neutral - plain.neutral, offsets, atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.eye_pivots - plain.eye_pivots, offsets[:2], atol=1e-6, rtol=0)


def test_posed_is_in_the_world_frame(people):
    transform = torch.eye(4)
    transform[:3, 3] = torch.tensor([0.1, 0.2, 0.7])
    still = MotionFrame(expression=torch.zeros(52), T_world_head=transform, neck=torch.zeros(3), gaze=torch.zeros(2, 2))
    torch.testing.assert_close(people[0].posed(still), people[0].neutral + transform[:3, 3], atol=1e-5, rtol=0)


def test_posed_is_the_local_surface_moved_with_head_torso_and_correction(people):
    generator = torch.Generator().manual_seed(2)
    transform = torch.eye(4)
    transform[:3, :3] = axis_angle_to_matrix(torch.tensor([0.1, -0.3, 0.05]))
    transform[:3, 3] = torch.tensor([0.1, 0.2, 0.7])
    motion = MotionFrame(
        expression=torch.rand(52, generator=generator), T_world_head=transform,
        neck=0.2 * torch.randn(3, generator=generator), gaze=0.3 * torch.randn(2, 2, generator=generator),
        torso=0.02 * torch.randn(3, generator=generator),
    )  # fmt: skip
    rigid = 0.05 * torch.randn(6, generator=generator)
    for person in people[:2]:
        local, pivot = person.vertices(motion.expression, motion.neck, motion.gaze), person.neck_pivots[1]
        turned = (local - pivot) @ axis_angle_to_matrix(rigid[:3]).T + pivot + rigid[3:]
        local = torch.lerp(local, turned, person.below_head)
        expected = local @ transform[:3, :3].T + transform[:3, 3] + person.below_head * motion.torso
        torch.testing.assert_close(person.posed(motion, rigid), expected, atol=2e-6, rtol=0)


def test_landmarks_lie_where_their_names_say(rig):
    points = rig.landmarks.points(rig.mean, rig.faces)
    usable = rig.landmarks.usable
    assert usable.float().mean() > 0.9
    assert usable[[1, 4, 13, 14, 33, 263, 61, 291, 152, 159, 145, 468, 473]].all()
    for right, left in ((33, 263), (61, 291), (159, 386), (468, 473)):
        assert points[right, 0] < 0 < points[left, 0]
        torch.testing.assert_close(points[left] * FLIP, points[right], atol=5e-4, rtol=0)
    for iris, side in ((468, 2), (473, 3)):
        assert (points[iris] - rig.pivots_mean[side])[:2].norm() < 2e-3
    assert (points[13, :2] - points[14, :2]).norm() < 4e-3
    assert rig.landmarks.sigma[usable].median() < 0.04


def test_iris_landmarks_follow_the_gaze(rig, people):
    rest = rig.landmarks.points(pose(people[0]), rig.faces)
    left = rig.landmarks.points(pose(people[0], gaze=((0.3, 0.0), (0.3, 0.0))), rig.faces)
    assert (left[468:, 0] - rest[468:, 0]).min() > 2e-3
    torch.testing.assert_close(left[:468], rest[:468])


def test_sampled_identities_are_reproducible_and_standard(rig):
    drawn = rig.sample(400, seed=3)
    torch.testing.assert_close(drawn, rig.sample(400, seed=3))
    assert abs(float(drawn.std()) - 1) < 0.08 and drawn.abs().max() <= 2.5


def test_saved_rigs_come_back_the_same(tmp_path, people):
    people[2].save(tmp_path / "rig.safetensors")
    back = PersonalRig.load(tmp_path / "rig.safetensors")
    for name, tensor in people[2].to_tensors().items():
        assert torch.equal(getattr(back, name), tensor)
    assert [p.name for p in tmp_path.iterdir()] == ["rig.safetensors"]


def test_damaged_and_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"rig\.safetensors: file is missing"):
        PersonalRig.load(tmp_path / "rig.safetensors")
    (tmp_path / "rig.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="make the rig again"):
        PersonalRig.load(tmp_path / "rig.safetensors")
    with pytest.raises(InputError, match="neutral"):
        PersonalRig.from_tensors({})
