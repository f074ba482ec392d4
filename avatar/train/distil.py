"""A trained avatar as the teacher of another kind: its pictures, from the front and from aside, are what is learned."""

import hashlib
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar.core import Camera, MotionFrame, RenderRequest
from avatar.errors import InputError
from avatar.events import Done, Sink, silent
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.media import Workspace
from avatar.media.files import sha256
from avatar.models.avatar_model import FILES, AvatarModel
from avatar.models.backdrop import over
from avatar.ops import parallel
from avatar.ops.rotation import axis_angle_to_matrix
from avatar.train.checkpoint import training_key
from avatar.train.config import TrainConfig
from avatar.train.dataset import Dataset, Sample
from avatar.train.log import TrainingLog
from avatar.train.loop import as_avatar, run
from avatar.train.session import Session

STAGE = "distil"
_ASIDE = 0.4
"""Share of the samples that are seen from aside."""
_FARTHEST = math.radians(20.0)
"""Past this, what a field learned from the front is not worth learning."""
_JUDGED = 24
"""Held-out frames that the loss is told from."""
_SEEN = 0.02
"""Alpha from which a pixel counts as the person."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What the pupil lost: decibels over whole held-out frames at the pupil's size, and frames a second."""

    kept_psnr: float
    """Of the pupil against the teacher."""
    teacher_psnr: float
    """Against the film."""
    pupil_psnr: float
    teacher_fps: float
    pupil_fps: float


class Lessons:
    """The questions of a dataset, many of them asked from aside, answered by a teacher."""

    def __init__(self, data: Dataset, teacher: AvatarModel):
        """Args: the teacher must be of the same person."""
        self.data, self.teacher = data, teacher

    def sample(self, step: int) -> Sample:
        """The sample of a step: the same for the same step."""
        asked, random = self.data.sample(step), np.random.default_rng((step, 1))
        camera, weight = asked.camera, asked.weight
        aside = random.random() < _ASIDE
        if aside:
            camera = turned(camera, asked.motion, float(random.uniform(-_FARTHEST, _FARTHEST)))
        out = self.teacher.draw(RenderRequest(camera=camera, motion=asked.motion))
        if aside:  # nobody knows the regions there
            weight = torch.where(out.alpha > _SEEN, 1.0, self.data.config.loss.background)
        rgb = over(out.rgb, out.alpha, asked.background).clamp(0, 1)
        return replace(asked, camera=camera, rgb=rgb, alpha=out.alpha, weight=weight)


def turned(camera: Camera, motion: MotionFrame, angle: float) -> Camera:
    """The camera, turned about the head's vertical axis by an angle in radians."""
    turn = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0]))
    centre, pose = motion.T_world_head[:3, 3], camera.T_world_camera.clone()
    pose[:3, :3] = turn @ pose[:3, :3]
    pose[:3, 3] = centre + turn @ (pose[:3, 3] - centre)
    return replace(camera, T_world_camera=pose)


def distil(workspace: Path, out: Path, config: TrainConfig, sink: Sink = silent, *, device: str = "auto") -> Loss:
    """Learn an avatar of the kind that `config` makes from the workspace's own avatar, and write it to `out`.

    It resumes where an earlier call with the same inputs was stopped.

    Raises:
        InputError: if there is no avatar, it is of that kind already, or `out` is the avatar itself.
    """
    opened, team = Workspace.open(workspace), parallel.join(device)
    teacher = AvatarModel.load(opened.path("avatar"))
    if out.resolve() == opened.path("avatar").resolve():
        raise InputError(f"{out}: is the avatar that is learned from; name another folder")
    track = load_track(opened.path("track.safetensors"))
    data = Dataset(opened, track, config)
    key = training_key(opened.root, config) + sha256(opened.path("avatar") / FILES[1])
    key = hashlib.sha256(key.encode()).hexdigest()
    threads = torch.get_num_threads()
    try:
        session = Session.begin(PersonalRig.load(opened.path("rig.safetensors")), data, config, key, team)
        kind = str(session.backbone.facts()["kind"])
        if teacher.meta.kind == kind:
            raise InputError(f"{workspace}: its avatar is of kind {kind!r} already; build it with a field recipe first")
        saved = opened.path("train") / "distil.safetensors"
        session.resume(saved)
        log = TrainingLog(saved.with_name("distil.json"), sink if team.leads else silent)
        log.resume(session.step)
        run(session, Lessons(data, teacher.to(team.device)), saved, film=data, sink=log)
    finally:
        torch.set_num_threads(threads)
    facts = {"recipe": config.name, "key": key, "steps": session.step, "taught_by": teacher.meta.trained}
    if team.leads:
        as_avatar(session.backbone.cpu(), data, trained=facts, speech=teacher.meta.speech).save(out)
        saved.unlink(missing_ok=True)
        lost = _judged(AvatarModel.load(out), teacher.to(torch.device("cpu")), data, opened)
    else:
        lost = Loss(kept_psnr=0, teacher_psnr=0, pupil_psnr=0, teacher_fps=0, pupil_fps=0)
    lost = Loss(**{name: team.told(value) for name, value in asdict(lost).items()})
    log(Done(stage=STAGE, seconds=session.seconds, outputs=(out,), facts=asdict(lost)))
    return lost


def _judged(pupil: AvatarModel, teacher: AvatarModel, data: Dataset, workspace: Workspace) -> Loss:
    motion = load_track(workspace.path("track.safetensors")).motion
    test = workspace.json("split.json")["test"] or data.indices
    errors, seconds = np.zeros(3), np.zeros(2)
    frames = [test[i] for i in np.linspace(0, len(test) - 1, min(_JUDGED, len(test))).round().astype(int)]
    for index in frames:
        request = RenderRequest(camera=data.camera, motion=motion.frame(index))
        drawn = []
        for which, avatar in enumerate((pupil, teacher)):
            start = time.perf_counter()
            drawn.append(avatar.render(request, data.plate).rgb.clamp(0, 1))
            seconds[which] += time.perf_counter() - start
        true = data.picture(index)
        errors += [_mse(drawn[0], drawn[1]), _mse(drawn[1], true), _mse(drawn[0], true)]
    kept, taught, learned = (float(-10 * np.log10(max(e / len(frames), 1e-10))) for e in errors)
    fps = len(frames) / np.maximum(seconds, 1e-9)
    return Loss(
        kept_psnr=kept, teacher_psnr=taught, pupil_psnr=learned, teacher_fps=float(fps[1]), pupil_fps=float(fps[0])
    )  # fmt: skip


def _mse(a: Float[Tensor, "h w 3"], b: Float[Tensor, "h w 3"]) -> float:
    return float((a - b).square().mean())
