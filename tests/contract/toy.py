"""A person of few triangles with a prepared workspace: small enough that models and training are tested in seconds."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar.core import Camera, FaceTrack, MotionSequence, Region, RenderRequest
from avatar.face import arkit
from avatar.face.rig import PersonalRig
from avatar.face.track_io import save_track
from avatar.media import Workspace, write_image
from avatar.models.avatar_model import AvatarMeta, AvatarModel
from avatar.models.backdrop import Plate, over
from avatar.models.conditioning import Conditioning
from avatar.models.gaussian_head import GaussianHead
from avatar.models.gaussian_seed import seed

RADIUS = 0.09


def rig(rings: int = 14) -> PersonalRig:
    """A ball of a head that opens its lips and shuts its eyes, on a barrel of a torso."""
    head, head_faces = _tube(rings, lambda t: RADIUS * math.sin(math.pi * t), lambda t: -RADIUS * math.cos(math.pi * t))
    head = head + torch.tensor([0.0, -0.06, -0.02])
    body, body_faces = _tube(8, lambda t: 0.05 + 0.1 * t, lambda t: 0.02 + 0.18 * t)
    vertices = torch.cat([head, body])
    faces = torch.cat([head_faces, body_faces + len(head)])
    center = vertices[faces].mean(1)
    front = (center[:, 2] < -0.05) & (torch.arange(len(faces)) < len(head_faces))
    x, y = center[:, 0], center[:, 1]
    regions = torch.where(torch.arange(len(faces)) < len(head_faces), int(Region.SKIN), int(Region.TORSO))
    regions[(y < -0.1) & (regions == Region.SKIN)] = int(Region.HAIR)
    regions[front & (x.abs() < 0.03) & ((y + 0.025).abs() < 0.015)] = int(Region.LIPS)
    regions[front & ((x.abs() - 0.035).abs() < 0.015) & ((y + 0.075).abs() < 0.012)] = int(Region.EYES)
    actions = torch.zeros(52, len(vertices), 3)
    actions[arkit.INDEX["jawOpen"], :, 1] = 0.02 * _bump(vertices, (0.0, -0.02, -0.1), 0.03)
    actions[arkit.INDEX["eyeBlinkLeft"], :, 1] = 0.008 * _bump(vertices, (0.035, -0.08, -0.09), 0.02)
    actions[arkit.INDEX["eyeBlinkRight"], :, 1] = 0.008 * _bump(vertices, (-0.035, -0.08, -0.09), 0.02)
    below = ((vertices[:, 1] - 0.0) / 0.05).clamp(0, 1)
    is_body = (torch.arange(len(vertices)) >= len(head)).float()
    skin = torch.stack([1 - is_body, is_body * (1 - below), is_body * below], 1)
    eyes = torch.zeros(len(vertices), 2)
    return PersonalRig(
        neutral=vertices, actions=actions, faces=faces, regions=regions.to(torch.uint8), skin=skin,
        neck_pivots=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.06, 0.01]]), eye_weights=eyes,
        eye_pivots=torch.tensor([[-0.035, -0.08, -0.08], [0.035, -0.08, -0.08]]),
        uv=torch.rand(len(faces), 3, 2, generator=torch.Generator().manual_seed(0)),
    )  # fmt: skip


def _tube(rings, radius, height, around: int = 20) -> tuple[Tensor, Tensor]:
    angle = torch.arange(around) / around * 2 * math.pi
    rows = [
        torch.stack([radius(t) * angle.sin(), torch.full_like(angle, height(t)), -radius(t) * angle.cos()], 1)
        for t in torch.linspace(0.02, 0.98, rings).tolist()
    ]
    faces = []
    for r in range(rings - 1):
        for k in range(around):
            a, b = r * around + k, r * around + (k + 1) % around
            faces += [(a, a + around, b), (b, a + around, b + around)]
    return torch.cat(rows), torch.tensor(faces)


def _bump(vertices: Tensor, center: tuple[float, float, float], width: float) -> Tensor:
    return torch.exp(-(vertices - torch.tensor(center)).square().sum(1) / (2 * width**2))


def camera(size: int = 64) -> Camera:
    """Half a metre and a bit in front of the face."""
    pose = torch.eye(4)
    return Camera(T_world_camera=pose, focal=(1.6 * size, 1.6 * size), center=(size / 2, size / 2), size=(size, size))


def motion(frames: int = 40) -> MotionSequence:
    """Turning, nodding, opening the mouth, blinking."""
    t = torch.arange(frames) / 12
    expression = torch.zeros(frames, 52)
    expression[:, arkit.INDEX["jawOpen"]] = (0.5 + 0.5 * torch.sin(3 * t)) * 0.8
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        expression[:, arkit.INDEX[name]] = (torch.sin(5 * t) > 0.8).float()
    pose = torch.eye(4).repeat(frames, 1, 1)
    yaw = 0.2 * torch.sin(t)
    pose[:, 0, 0], pose[:, 0, 2], pose[:, 2, 0], pose[:, 2, 2] = yaw.cos(), yaw.sin(), -yaw.sin(), yaw.cos()
    pose[:, 0, 3], pose[:, 1, 3], pose[:, 2, 3] = 0.01 * torch.sin(2 * t), 0.02, 0.62
    neck = torch.stack([torch.zeros(frames), yaw, torch.zeros(frames)], 1)
    return MotionSequence(expression=expression, T_world_head=pose, neck=neck, gaze=torch.zeros(frames, 2, 2), fps=25.0)


@torch.no_grad()
def person(splats: int = 1500) -> GaussianHead:
    """The true person: splats on the rig with a colourful pattern."""
    body = rig()
    state = seed(body, [], splats)
    rest = (body.neutral[body.faces[state.triangle]] * state.bary[..., None]).sum(1)
    pattern = 1.5 * torch.sin(rest[:, :1] * 90) * torch.cos(rest[:, 1:2] * 80) * torch.tensor([1.0, 0.6, -0.8])
    state.raw_colour.add_(pattern)
    conditioning = Conditioning(4, hidden=8)
    conditioning.fit(motion())
    return GaussianHead(body, state, conditioning).eval()


@torch.no_grad()
def workspace(folder: Path, frames: int = 40, size: int = 64) -> Workspace:
    """A prepared workspace whose clip shows `person`."""
    source = folder / "clip.bin"
    source.write_bytes(b"drawn, not filmed")
    made = Workspace.create(folder / "me", source)
    made.set_frames(25.0, frames, (size, size))
    for name in ("frames", "parsing", "alpha"):
        (made.root / name).mkdir()
    ramp = torch.linspace(0.2, 0.8, size)
    plate = torch.stack(
        [ramp[None, :].expand(size, size), ramp[:, None].expand(size, size), torch.full((size, size), 0.5)], -1
    )
    write_image(made.path("plate.png"), _bytes(plate))
    truth, moves, view = person(), motion(frames), camera(size)
    for i in range(frames):
        out = truth.render(RenderRequest(camera=view, motion=moves.frame(i)))
        made.write_picture("frames", i, _bytes(over(out.rgb, out.alpha, plate)))
        made.write_picture("alpha", i, _bytes(out.alpha))
        made.write_picture("parsing", i, labels(truth.rig, moves, i, view, out.alpha))
    track = FaceTrack(
        motion=moves,
        identity=torch.zeros(1),
        camera=view,
        landmarks_px=torch.zeros(frames, 478, 2),
        confidence=torch.ones(frames),
    )
    save_track(track, made.path("track.safetensors"))
    truth.rig.save(made.path("rig.safetensors"))
    last = frames * 4 // 5
    made.write_json("split.json", {"train": list(range(last)), "test": list(range(last, frames))})
    return made


def avatar(size: int = 64, splats: int = 1500) -> AvatarModel:
    """The true person before a ramp, as an avatar that can be saved."""
    ramp = torch.linspace(0.2, 0.8, size)[:, None, None].expand(size, size, 3)
    meta = AvatarMeta.of("gaussian", camera(size), motion().frame(2), 25.0)
    return AvatarModel(person(splats), Plate(image=ramp, camera=camera(size)), meta)


def labels(body: PersonalRig, moves: MotionSequence, index: int, view: Camera, alpha: Tensor) -> np.ndarray:
    """Region of the nearest triangle that faces the camera."""
    surface = body.posed(moves.frame(index))
    center = surface[body.faces].mean(1)
    near = center[:, 2] < center[:, 2].median()
    rows, columns = torch.meshgrid(torch.arange(view.size[0]), torch.arange(view.size[1]), indexing="ij")
    pixels = torch.stack([columns.flatten() + 0.5, rows.flatten() + 0.5], 1)
    found = body.regions[near][torch.cdist(pixels, view.project(center[near])).argmin(1)].view(view.size)
    return torch.where(alpha > 0.5, found, 0).to(torch.uint8).numpy()


def _bytes(picture: Tensor) -> np.ndarray:
    return np.ascontiguousarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
