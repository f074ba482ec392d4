"""Training on a toy person: it learns, resumes, and says what is wrong with a workspace."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.core import RenderRequest
from avatar.errors import InputError
from avatar.events import Done, Draft, Metric, Preview, Progress
from avatar.face import arkit
from avatar.face.rig import PersonalRig
from avatar.face.track_io import load_track
from avatar.models.avatar_model import AvatarModel
from avatar.models.gaussian_head import GaussianConfig
from avatar.ops import lpips
from avatar.train import loop
from avatar.train.checkpoint import training_key
from avatar.train.config import SamplingConfig, TrainConfig
from avatar.train.dataset import Dataset, prefetched
from tests.contract import toy
from tests.lpips_files import states, write

HEAD = GaussianConfig(splats=1200, basis=4, hidden=8)
CONFIG = TrainConfig(
    name="toy", head=HEAD, steps=40, views=4, threads=1, report_every=10, preview_every=20, checkpoint_every=15,
    sampling=SamplingConfig(crop=32),
)  # fmt: skip


@pytest.fixture
def workspace(tmp_path):
    return toy.workspace(tmp_path, frames=20, size=48)


def held_out_error(folder, workspace) -> float:
    avatar, track = AvatarModel.load(folder), load_track(workspace.path("track.safetensors"))
    errors = []
    for i in workspace.json("split.json")["test"]:
        out = avatar.render(RenderRequest(camera=track.camera, motion=track.motion.frame(i)))
        errors.append(np.abs(out.rgb.numpy() - workspace.frame(i) / 255).mean())
    return float(np.mean(errors))


def test_training_explains_frames_it_never_saw_and_reports_on_the_way(workspace):
    heard = []
    few = loop.train(workspace.root, replace(CONFIG, steps=1))
    start = held_out_error(few, workspace)
    folder = loop.train(workspace.root, CONFIG, heard.append)
    assert held_out_error(folder, workspace) < min(0.75 * start, 0.035)
    assert {type(e) for e in heard} == {Progress, Metric, Preview, Draft, Done}
    done = [e.done for e in heard if isinstance(e, Progress)]
    assert done[0] == 0 and done[-1] == CONFIG.steps and done == sorted(done)
    workspace.write_json("style.json", {"blink_hz": 0.4})
    loop.train(workspace.root, CONFIG, heard.append)
    assert heard[-1].skipped and AvatarModel.load(folder).meta.speech == {"blink_hz": 0.4}
    assert not (workspace.root / "train" / "checkpoint.safetensors").exists()


def test_copies_taken_on_the_way_stay_as_they_are_and_change_nothing_in_the_training(workspace):
    short = replace(CONFIG, steps=20)
    alone = AvatarModel.load(loop.train(workspace.root, short)).backbone.to_tensors()
    (workspace.root / "avatar" / "avatar.json").unlink()
    drafts = {}

    def watch(event):
        if isinstance(event, Draft):
            drafts[event.step] = copied = event.copy()
            drafts[-event.step] = copied.draw(RenderRequest(camera=copied.meta.camera, motion=copied.meta.rest)).rgb

    watched = AvatarModel.load(loop.train(workspace.root, short, watch)).backbone.to_tensors()
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
    assert set(drafts) == {10, 20, -10, -20}
    again = drafts[10].draw(RenderRequest(camera=drafts[10].meta.camera, motion=drafts[10].meta.rest)).rgb
    assert torch.equal(again, drafts[-10]) and not torch.equal(again, drafts[-20])


def test_interrupted_training_goes_on_from_its_checkpoint_to_the_same_avatar(workspace, monkeypatch):
    whole = AvatarModel.load(loop.train(workspace.root, CONFIG)).backbone.to_tensors()
    (workspace.root / "avatar" / "avatar.json").unlink()
    report = loop._report

    def stop_at_22(session, *rest):
        report(session, *rest)
        if session.step == 22:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_report", stop_at_22)
    with pytest.raises(KeyboardInterrupt):
        loop.train(workspace.root, CONFIG)
    assert not (workspace.root / "avatar" / "avatar.json").exists()
    monkeypatch.setattr(loop, "_report", report)
    heard = []
    resumed = AvatarModel.load(loop.train(workspace.root, CONFIG, heard.append)).backbone.to_tensors()
    assert heard[0].done == 15
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name].float(), tensor.float(), atol=2e-2, rtol=1e-2, msg=name)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used(workspace, monkeypatch):
    saved = workspace.root / "train" / "checkpoint.safetensors"
    data = Dataset(workspace, load_track(workspace.path("track.safetensors")), CONFIG)
    rig = PersonalRig.load(workspace.path("rig.safetensors"))
    session = loop.Session.begin(rig, data, CONFIG, "key")
    session.step = 7
    session.save(saved)
    assert loop.Session.begin(rig, data, CONFIG, "other").resume(saved) is False
    again = loop.Session.begin(rig, data, CONFIG, "key")
    assert again.resume(saved) and again.step == 7
    saved.write_bytes(saved.read_bytes()[:1000])
    assert loop.Session.begin(rig, data, CONFIG, "key").resume(saved) is False


def test_samples_depend_on_seed_and_step_only_and_windows_fit_their_camera(workspace):
    track = load_track(workspace.path("track.safetensors"))
    data = Dataset(workspace, track, CONFIG)
    with prefetched(data, range(5, 40)) as samples:
        seen = dict(samples)
    assert list(seen) == list(range(5, 40))
    fresh = Dataset(workspace, track, CONFIG)
    for step in (5, 20, 39):
        again = fresh.sample(step)
        assert again.index == seen[step].index and torch.equal(again.rgb, seen[step].rgb)
    sizes = {tuple(s.rgb.shape[:2]) for s in seen.values()}
    assert sizes == {(24, 24), (48, 48), (32, 32)}  # coarse, whole, window
    truth = toy.person()
    for sample in seen.values():
        assert sample.camera.size == sample.rgb.shape[:2] == sample.background.shape[:2] == sample.weight.shape
        with torch.no_grad():
            alpha = truth.render(RenderRequest(camera=sample.camera, motion=sample.motion)).alpha
        coarse = sample.rgb.shape[0] == 24  # half the pixels blur the edge
        assert (alpha - sample.alpha).abs().mean() < (0.1 if coarse else 0.005)


def test_wide_mouths_and_shut_eyes_are_drawn_more_often(workspace):
    track = load_track(workspace.path("track.safetensors"))
    data = Dataset(workspace, track, CONFIG)
    jaw, lid = (data.motion.expression[:, arkit.INDEX[name]] for name in ("jawOpen", "eyeBlinkLeft"))
    assert np.corrcoef(data.chances, jaw + lid)[0, 1] > 0.3
    np.testing.assert_allclose(data.chances.sum(), 1)


def test_memory_of_decoded_frames_is_bounded(workspace):
    small = replace(CONFIG, sampling=SamplingConfig(cache_mb=0))
    data = Dataset(workspace, load_track(workspace.path("track.safetensors")), small)
    for step in range(10):
        data.sample(step)
    assert len(data._cache) == 1


def test_a_workspace_without_training_frames_is_refused(workspace):
    workspace.write_json("split.json", {"train": [], "test": [1]})
    with pytest.raises(InputError, match="usable training frames"):
        loop.train(workspace.root, CONFIG)


def test_a_folder_that_is_no_workspace_is_refused(tmp_path):
    with pytest.raises(InputError, match="no workspace"):
        loop.train(tmp_path, CONFIG)


def test_lpips_counts_where_its_weights_are_and_after_its_share_of_the_training(tmp_path, monkeypatch):
    folder = toy.workspace(tmp_path, frames=20, size=96)
    loss = replace(CONFIG.loss, lpips=0.1, lpips_from=0.5)
    config = replace(CONFIG, steps=20, report_every=1, loss=loss, sampling=SamplingConfig(crop=64, coarse=0.2))
    heard = []
    monkeypatch.setattr(lpips, "weight_files", lambda: None)
    keys, avatars = [training_key(folder.root, config)], []
    avatars.append(AvatarModel.load(loop.train(folder.root, config, heard.append)).backbone.to_tensors())
    assert not [e for e in heard if isinstance(e, Metric) and e.name == "lpips"]
    made = write(*states(), tmp_path / "weights")
    monkeypatch.setattr(lpips, "weight_files", lambda: made)
    keys.append(training_key(folder.root, config))
    avatars.append(AvatarModel.load(loop.train(folder.root, config, heard.append)).backbone.to_tensors())
    told = {e.step: e.value for e in heard if isinstance(e, Metric) and e.name == "lpips"}
    assert sorted(told) == list(range(11, 21)) and all(value > 0 for value in told.values())
    assert keys[0] != keys[1] and not torch.equal(avatars[0]["colour"], avatars[1]["colour"])
    without = replace(config, loss=replace(loss, lpips=0.0))
    monkeypatch.setattr(lpips, "weight_files", lambda: None)
    key = training_key(folder.root, without)
    monkeypatch.setattr(lpips, "weight_files", lambda: made)
    assert training_key(folder.root, without) == key
