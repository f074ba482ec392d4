"""Heads of flat colours whose ears, skull and hair are known, fitted from a head that is wrong beside the face."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch

from avatar.core import Camera, FaceTrack, MotionSequence, Region
from avatar.face.outline import Outline, outline, prepared
from avatar.face.parsing import Parser
from avatar.face.rig import AnnyRig, PersonalRig
from avatar.face.shoulders import fit_shoulders
from avatar.face.silhouette import fit_silhouette
from avatar.ops.mesh import rasterize_mesh
from avatar.ops.rotation import axis_angle_to_matrix
from avatar.synthetic.surface import vertex_normals

cv2 = pytest.importorskip("cv2", reason="needs OpenCV, as the fit of outlines does")

SIZE, WALL = (256, 256), (90, 110, 130)
SKIN, HAIR, CLOTH = (200, 150, 125), (50, 35, 30), (40, 60, 150)
SHIRT = 0.008
"""Metres from the body to the outside of what is worn."""
BELOW = [int(Region.NECK), int(Region.TORSO)]
YAWS = (-0.35, -0.15, 0.0, 0.15, 0.35)


@dataclass(frozen=True)
class Film:
    track: FaceTrack
    frames: list[np.ndarray]
    masks: list[np.ndarray]

    def fit(self, rig: PersonalRig) -> PersonalRig:
        """The fitted person where the film shows it: carried back to the frame of the poses that were given."""
        track, person = self.moved(rig)
        T = self.track.motion.T_world_head[0].inverse() @ track.motion.T_world_head[0]
        return replace(person, neutral=person.neutral @ T[:3, :3].T + T[:3, 3])

    def moved(self, rig: PersonalRig) -> tuple[FaceTrack, PersonalRig]:
        return fit_silhouette(self.track, rig, family(), frame=self.frames.__getitem__, mask=self.masks.__getitem__)


@cache
def family() -> AnnyRig:
    return AnnyRig.load()


@cache
def plain() -> PersonalRig:
    return family().personal(torch.zeros(family().identity_size))


def vertices_of(region: Region) -> torch.Tensor:
    return plain().faces[plain().regions == int(region)].unique()


def moved(metres: float, *, up: float = 0.0) -> PersonalRig:
    """The plain head with both ears further out and higher by so much, smoothly."""
    ears = plain().neutral[vertices_of(Region.EARS)]
    near = torch.exp(-0.5 * (torch.cdist(plain().neutral, ears).amin(1) / 0.008) ** 2)
    offsets = torch.zeros_like(plain().neutral)
    offsets[:, 0] = metres * near * plain().neutral[:, 0].sign()
    offsets[:, 1] = -up * near
    return family().personal(torch.zeros(family().identity_size), offsets)


def track_of(yaws: tuple[float, ...]) -> FaceTrack:
    count = len(yaws)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, :3, :3] = axis_angle_to_matrix(torch.tensor([[0.0, yaw, 0.0] for yaw in yaws]))
    pose[:, :3, 3] = torch.tensor([0.0, 0.02, 0.9])
    motion = MotionSequence(
        expression=torch.zeros(count, 52), T_world_head=pose, neck=torch.zeros(count, 3), gaze=torch.zeros(count, 2, 2),
        fps=25.0,
    )  # fmt: skip
    return FaceTrack(
        motion=motion,
        identity=torch.zeros(family().identity_size),
        camera=Camera(T_world_camera=torch.eye(4), focal=(640.0, 640.0), center=(128.0, 128.0), size=SIZE),
        landmarks_px=torch.zeros(count, 478, 2),
        confidence=torch.ones(count),
    )


def film(
    person: PersonalRig,
    *,
    hair: int = 0,
    hair_colour: tuple[int, ...] = HAIR,
    yaws: tuple[float, ...] = YAWS,
    shirt: float = SHIRT,
) -> Film:
    """The person in flat colours with noise; bald, or with hair that stands out by so many pixels."""
    track, random = track_of(yaws), np.random.default_rng(0)
    colours = np.array([SKIN] * 11 + [WALL], float)
    colours[[Region.TORSO]] = CLOTH
    colours[[Region.EYES, Region.BROWS]] = HAIR
    colours[Region.HAIR] = hair_colour if hair else SKIN
    person = dressed(person, shirt)
    kinds = np.concatenate([person.regions.numpy(), [11]])
    frames, masks = [], []
    for index in range(len(yaws)):
        camera = track.camera
        seen, _, _ = rasterize_mesh(
            person.posed(track.motion.frame(index)), person.faces, camera.focal, camera.center, camera.size
        )
        shown = kinds[seen.numpy()]
        picture, mask = colours[shown], (shown != 11).astype(np.uint8)
        if hair:
            grown = cv2.dilate((shown == Region.HAIR).astype(np.uint8), np.ones((2 * hair + 1,) * 2, np.uint8))
            over = (grown > 0) & (shown == 11)
            picture[over], mask[over] = hair_colour, 1
        noisy = cv2.GaussianBlur(picture, (0, 0), 0.6) + random.normal(0, 3, (*SIZE, 3))
        frames.append(noisy.clip(0, 255).astype(np.uint8))
        masks.append(mask * np.uint8(255))
    return Film(track, frames, masks)


def dressed(person: PersonalRig, thick: float) -> PersonalRig:
    """With a shirt over the shoulders."""
    shirt = thick * person.skin[:, 2:] * vertex_normals(person.neutral, person.faces)
    return replace(person, neutral=person.neutral + shirt)


def apart(a: PersonalRig, b: PersonalRig, vertices: torch.Tensor) -> float:
    """Mean distance, millimetres."""
    return float(1e3 * (a.neutral - b.neutral)[vertices].norm(dim=1).mean())


def surfaces_apart(a: PersonalRig, b: PersonalRig, vertices: torch.Tensor) -> float:
    """Mean distance along the normals, millimetres: an outline does not show what slides along the surface."""
    normals = vertex_normals(b.neutral, b.faces)
    return float(1e3 * ((a.neutral - b.neutral) * normals).sum(1)[vertices].abs().mean())


def landmarks_apart(a: PersonalRig, b: PersonalRig) -> float:
    table = family().landmarks
    points = [table.points(rig.neutral, rig.faces)[table.usable] for rig in (a, b)]
    return float(1e3 * (points[0] - points[1]).norm(dim=1).mean())


@pytest.fixture(scope="module")
def far_ears() -> tuple[PersonalRig, PersonalRig]:
    """A person whose ears stand out by 7 mm, and the plain head fitted to them."""
    person = moved(0.007)
    return person, film(person).fit(plain())


def test_ears_are_found_where_they_are(far_ears):
    person, fitted = far_ears
    ears = vertices_of(Region.EARS)
    assert apart(plain(), person, ears) > 6
    assert apart(fitted, person, ears) < 2.5


def test_ears_that_sit_higher_keep_their_shape_and_the_skull_its_own():
    person, ears, skull = moved(0.0, up=0.012), vertices_of(Region.EARS), vertices_of(Region.HAIR)
    fitted = film(person).fit(plain())
    assert apart(fitted, person, ears) < 1
    shift = 1e3 * (fitted.neutral - plain().neutral)[ears]
    for side in (plain().neutral[ears, 0] < 0, plain().neutral[ears, 0] > 0):
        assert float(shift[side].std(0).max()) < 0.6
    assert surfaces_apart(fitted, plain(), skull) < 1


def test_a_head_that_is_pitched_is_no_unusual_head():
    """Landmarks were explained by a face that is pitched on its skull; the outline and what is usual say otherwise."""
    usual, modes = family(), family().neutral(torch.eye(family().identity_size)) - family().mean
    face = usual.landmarks.points(modes, usual.faces)[:, usual.landmarks.usable]
    at = usual.landmarks.points(usual.mean, usual.faces)[usual.landmarks.usable]
    arm = at - at.mean(0)
    pitch = (torch.linalg.cross(torch.tensor([1.0, 0, 0]).expand_as(arm), arm) * face).sum((1, 2))
    wrong = 4 * pitch / pitch.norm()
    film_ = film(plain())
    given = Film(replace(film_.track, identity=wrong), film_.frames, film_.masks)
    start = usual.personal(wrong)
    table = usual.landmarks
    a, b = (table.points(r.neutral, r.faces)[table.usable].double() for r in (start, plain()))
    u, _, vh = torch.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
    R = (u @ torch.diag(torch.tensor([1.0, 1, torch.linalg.det(u @ vh)], dtype=torch.float64)) @ vh).T.float()
    motion = given.track.motion
    pose = motion.T_world_head.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ R
    pose[:, :3, 3] += motion.T_world_head[:, :3, :3] @ (b.mean(0).float() - R @ a.mean(0).float())
    given = replace(given, track=replace(given.track, motion=replace(motion, T_world_head=pose)))
    track, person = given.moved(start)

    def pitch_deg(found: torch.Tensor) -> float:
        turn = motion.T_world_head[:, :3, :3].transpose(1, 2) @ found[:, :3, :3]
        return float(torch.rad2deg(torch.atan2(turn[:, 2, 1], turn[:, 1, 1])).abs().mean())

    assert pitch_deg(pose) > 8
    assert pitch_deg(track.motion.T_world_head) < 0.7 * pitch_deg(pose)
    world = [r.posed(t.motion.frame(0)) for t, r in ((given.track, start), (track, person))]
    at_face = [table.points(w, person.faces)[table.usable] for w in world]
    assert 1e3 * float((at_face[0] - at_face[1]).norm(dim=1).mean()) < 0.5


def test_the_face_stays_where_the_landmarks_put_it(far_ears):
    assert landmarks_apart(far_ears[1], plain()) < 0.15


def test_eyeballs_keep_their_shape(far_ears):
    fitted, (right, left) = far_ears[1], (plain().eye_weights > 0.99).T
    for ball in (right, left):
        shape = [rig.neutral[ball] - rig.neutral[ball].mean(0) for rig in (fitted, plain())]
        assert float((shape[0] - shape[1]).norm(dim=1).max()) < 3e-4


def test_a_bald_skull_is_found():
    offsets = torch.zeros_like(plain().neutral)
    high = (-plain().neutral[:, 1] - 0.10).clamp_min(0)
    offsets[:, 1] = -0.15 * high * plain().skin[:, 0]
    person = family().personal(torch.zeros(family().identity_size), offsets)
    top = high > 0.03
    assert surfaces_apart(plain(), person, top) > 5
    assert surfaces_apart(film(person).fit(plain()), person, top) < 1


@pytest.mark.parametrize(("colour", "pixels"), [(HAIR, 11), (SKIN, 7)], ids=["dark", "as skin"])
def test_hair_lies_outside_of_the_skull(colour, pixels):
    fitted = film(plain(), hair=pixels, hair_colour=colour).fit(plain())  # 15 and 10 mm
    skull = vertices_of(Region.HAIR)
    assert surfaces_apart(fitted, plain(), skull) < 2


def test_a_skull_that_stands_out_of_the_hair_shrinks():
    wide = plain().neutral * (1 + 0.15 * plain().skin[:, :1])
    wide = torch.where((plain().neutral[:, 1] < -0.09)[:, None], wide, plain().neutral)
    start = family().personal(torch.zeros(family().identity_size), wide - plain().neutral)
    top = plain().neutral[:, 1] < -0.12
    fitted = film(plain(), hair=2).fit(start)
    assert surfaces_apart(start, plain(), top) > 5
    assert surfaces_apart(fitted, plain(), top) < 0.6 * surfaces_apart(start, plain(), top)


def test_a_hand_beside_the_cheek_is_no_cheek():
    drawn = film(plain())
    for frame, mask in zip(drawn.frames, drawn.masks, strict=True):
        cv2.circle(frame, (185, 150), 22, SKIN, -1)
        cv2.circle(mask, (185, 150), 22, 255, -1)
    fitted = drawn.fit(plain())
    assert surfaces_apart(fitted, plain(), vertices_of(Region.SKIN)) < 1


def test_a_still_head_keeps_the_depth_that_no_outline_shows():
    fitted, ears = film(moved(0.007), yaws=(0.0, 0.01)).fit(plain()), vertices_of(Region.EARS)
    shift = 1e3 * (fitted.neutral - plain().neutral).abs()
    assert float(shift[ears, 0].mean()) > 3.5
    assert float(shift[ears, 2].mean()) < 2
    assert float(shift[plain().neutral[:, 2] > 0.08].mean()) < 1


def test_shoulders_are_found_as_far_below_the_head_as_they_are():
    longer = plain().neutral + 0.02 * plain().below_head * torch.tensor([0.0, 1.0, 0.0])
    person = family().personal(torch.zeros(family().identity_size), longer - plain().neutral)
    person = replace(person, neck_pivots=plain().neck_pivots + torch.tensor([[0.0, 0, 0], [0.0, 0.02, 0]]))
    fitted, torso = film(person).moved(plain())[1], plain().skin[:, 2] > 0.99
    assert apart(person, plain(), torso) > 19
    assert apart(person, fitted, torso) < 6
    assert abs(float(fitted.neck_pivots[1, 1] - person.neck_pivots[1, 1])) < 0.006
    assert apart(fitted, plain(), plain().skin[:, 0] > 0.99) < 1


def test_where_hardly_a_shoulder_is_seen_the_torso_stays():
    camera = track_of(YAWS).camera
    assert fit_shoulders(plain(), camera, [], np.ones(len(plain().faces), bool)) is plain()


def test_without_an_edge_of_the_person_nothing_moves():
    drawn = film(plain(), yaws=(0.0, 0.1))
    whole = replace(drawn, masks=[np.full(SIZE, 255, np.uint8)] * 2)
    torch.testing.assert_close(whole.fit(plain()).neutral, plain().neutral, atol=1e-5, rtol=0)


def test_an_open_edge_of_the_mesh_is_no_rim():
    drawn, rig = film(plain(), yaws=(0.0, 0.1), shirt=0), plain()
    parser = Parser(rig, drawn.track.camera, 2)
    for index in (0, 1):
        parser.survey(index, drawn.frames[index], drawn.masks[index], drawn.track.motion.frame(index))
    picture = prepared(parser, drawn.frames[0], drawn.masks[0], drawn.track.motion.frame(0))

    def found(part: torch.Tensor) -> Outline:
        return outline(rig, drawn.track.camera, picture, part.numpy())

    ears, below = rig.regions == int(Region.EARS), torch.isin(rig.regions.long(), torch.tensor(BELOW))
    everything = found(~below)
    assert ears[everything.triangle].any() and np.abs(everything.gap).max() < 2e-3
    assert not ears[found(~below & ~ears).triangle].any()
    assert below[found(below).triangle].all() and not below[everything.triangle].any()
