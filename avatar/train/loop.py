"""The training loop. It knows no kinds of backbone and no listeners; interrupted, it resumes at its last checkpoint."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avatar.core import RenderRequest
from avatar.errors import InputError
from avatar.events import Done, Draft, Metric, Preview, Progress, Sink, silent
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.media import Workspace
from avatar.models.avatar_model import AvatarMeta, AvatarModel
from avatar.models.backdrop import Plate, over
from avatar.models.base import AbstractBackbone
from avatar.ops import parallel
from avatar.ops.lpips import SMALLEST
from avatar.train.checkpoint import training_key
from avatar.train.config import TrainConfig
from avatar.train.dataset import Dataset, Sample, SampleSource, prefetched
from avatar.train.log import TrainingLog
from avatar.train.losses import picture_loss
from avatar.train.session import Session
from avatar.train.threads import ThreadTuner

STAGE = "train"


def train(workspace: Path, config: TrainConfig, sink: Sink = silent, *, device: str = "auto") -> Path:
    """Learn the avatar of a prepared workspace; resumes where an earlier call with the same inputs was stopped.

    Args:
        device: as `ops.device` takes it. What is learned does not depend on it, but for rounding. All processes that
            torchrun starts train one avatar; each takes its share of the steps.

    Returns:
        The avatar's folder, `workspace/avatar`.

    Raises:
        InputError: if the workspace is not prepared, or the disk refuses.
    """
    opened, team = Workspace.open(workspace), parallel.join(device)
    key, folder = training_key(opened.root, config), opened.path("avatar")
    style = opened.json("style.json") if opened.path("style.json").exists() else {}
    sink = sink if team.leads else silent
    done = _finished(folder, key) if team.leads else None
    if team.told(done is not None):
        if done is not None and done.meta.speech != style:
            AvatarModel(done.backbone, done.plate, replace(done.meta, speech=style)).save(folder)
        sink(Done(stage=STAGE, seconds=0.0, outputs=(folder,), skipped=True))
        return folder
    threads = torch.get_num_threads()
    try:
        track = load_track(opened.path("track.safetensors"))
        data = Dataset(opened, track, config)
        session = Session.begin(PersonalRig.load(opened.path("rig.safetensors")), data, config, key, team)
        saved = opened.path("train") / "checkpoint.safetensors"
        session.resume(saved)
        log = TrainingLog(saved.with_name("log.json"), sink)
        log.resume(session.step)
        run(session, data, saved, film=data, sink=log)
    finally:
        torch.set_num_threads(threads)
    facts = {"recipe": config.name, "key": key, "steps": session.step, "seconds": round(session.seconds, 1)}
    if team.leads:
        as_avatar(session.backbone.cpu(), data, trained=facts, speech=style).save(folder)
        saved.unlink(missing_ok=True)
    team.wait()
    sink(Done(stage=STAGE, seconds=session.seconds, outputs=(folder,), facts=session.backbone.facts()))
    return folder


def run(session: Session, data: SampleSource, saved: Path, *, film: Dataset, sink: TrainingLog) -> None:
    """Take the steps that are left, with a checkpoint in `saved` now and then.

    Args:
        film: what the samples are of; who looks at the avatar while it learns sees it before this film's background.
    """
    config, team, began = session.config, session.team, time.monotonic() - session.seconds
    tuner = ThreadTuner(config.threads // team.size, tries=team.device.type == "cpu")
    sink(Progress(stage=STAGE, done=session.step, total=config.steps, unit="steps"))
    session.backbone.train()
    with prefetched(data, team.turns(session.step, config.steps), team.device) as samples:
        for turn, sample in samples:
            tuner.before()
            first = turn - team.rank
            team.seed(config.seed, turn)
            progress, image, parts = take_step(session, sample, first)
            seconds = team.told(time.monotonic() - began)
            tuner.after(seconds - session.seconds)
            session.step, session.seconds = min(first + team.size, config.steps), seconds
            _report(session, sample, image, parts, sink)
            if team.passes(first + 1, config.report_every):
                sink(Draft(stage=STAGE, step=session.step, copy=lambda: _copied(session.backbone, film)))
            if team.passes(first + 1, config.checkpoint_every) and session.step < config.steps:
                session.save(saved)
                if team.leads:
                    sink.save()
            if progress >= 1:
                break
    team.check(session.backbone.state_dict())
    session.backbone.eval()
    if team.leads:
        sink.save()
    sink(Progress(stage=STAGE, done=config.steps, total=config.steps, unit="steps"))


def take_step(session: Session, sample: Sample, step: int) -> tuple[float, Tensor, dict[str, Any]]:
    """Draw a sample, compare, go back, move everything a little.

    Returns:
        How much of the training is done (0 to 1), the picture, and numbers worth reporting.
    """
    config = session.config
    out = session.backbone.render(RenderRequest(camera=sample.camera, motion=sample.motion))
    image = over(out.rgb, out.alpha, sample.background)
    progress = max(step / config.steps, session.seconds / (config.seconds or float("inf")))
    loss, parts = picture_loss(image, out.alpha, sample, config.loss)
    if session.judge is not None and progress >= config.loss.lpips_from and min(image.shape[:2]) >= SMALLEST:
        unlike = session.judge(image, sample.rgb)
        loss, parts = loss + config.loss.lpips * unlike, {**parts, "lpips": unlike.detach()}
    (loss + session.upkeep.before_backward(step, out)).backward()
    session.advance(progress)
    return progress, image, {**parts, **session.upkeep.after_step(step, out, session.optimizer)}


def _report(session: Session, sample: Sample, image: Tensor, parts: dict[str, Any], sink: Sink) -> None:
    config, step, first = session.config, session.step, session.step - session.team.size + 1
    if session.team.passes(first, config.report_every):
        sink(Progress(stage=STAGE, done=step, total=config.steps, unit="steps"))
        for name, value in parts.items():
            sink(Metric(stage=STAGE, name=name, value=float(value), step=step))
    if session.team.passes(first, config.preview_every):
        pair = torch.cat([sample.rgb, image.detach().clamp(0, 1)], 1).cpu()
        sink(Preview(stage=STAGE, name="truth and avatar", image=(pair * 255).round().numpy().astype(np.uint8)))


def _copied(backbone: AbstractBackbone, data: Dataset) -> AvatarModel:
    """The avatar as it is now, before its training is through; the training goes on as if nobody had looked."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a new network draws its first weights
        tensors = {name: tensor.cpu() for name, tensor in backbone.to_tensors().items()}
        kept = type(backbone).from_tensors(tensors, backbone.rig.each(Tensor.cpu))
    return as_avatar(kept, data)


def as_avatar(backbone: AbstractBackbone, data: Dataset, **more: Any) -> AvatarModel:
    """With the camera, plate and resting face of the film; `more` is kept in its facts."""
    meta = AvatarMeta.of(str(backbone.facts()["kind"]), data.camera, data.rest(), data.motion.fps, **more)
    return AvatarModel(backbone, Plate(image=data.plate, camera=data.camera), meta)


def _finished(folder: Path, key: str) -> AvatarModel | None:
    """The avatar there, if it is whole and came of the same inputs."""
    try:
        avatar = AvatarModel.load(folder)
    except InputError:
        return None
    return avatar if avatar.meta.trained.get("key") == key else None
