"""Head model, detector and parser can be chosen; a choice and its file's content are part of a stage's key."""

import hashlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from avatar.errors import InputError
from avatar.events import Event, Notice
from avatar.face.arkit import INDEX
from avatar.face.sparse_landmarks import SEEN, FaceAlignmentDetector
from avatar.preprocess import PreprocessConfig, Tools
from avatar.preprocess.choices import tools_for
from avatar.preprocess.stage import Run
from avatar.preprocess.steps import Steps
from tests import face_files


@pytest.fixture(scope="module")
def basel_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bfm") / "01_MorphableModel.mat"
    savemat(path, face_files.bfm_2009(face_files.draw(eyeballs=False, mask=True)))
    return path


def configs(config: PreprocessConfig, tools: Tools | None = None) -> dict[str, dict]:
    """What each stage's key contains beside its inputs."""
    steps = Steps(video=Path("me.mp4"), config=config, tools=tools or tools_for(config, lambda event: None))
    return {stage.name: dict(stage.config) for stage in steps.stages()}


def changed(config: PreprocessConfig) -> set[str]:
    usual, now = configs(PreprocessConfig()), configs(config)
    return {name for name in usual if usual[name] != now[name]}


def test_the_usual_tools_leave_old_folders_up_to_date():
    assert configs(PreprocessConfig(), Tools()) == configs(PreprocessConfig())
    assert not any({"rig", "detector", "parser"} & set(config) for config in configs(PreprocessConfig()).values())


def test_another_rig_runs_tracking_again_and_says_what_is_its_own(basel_file, tmp_path):
    config = PreprocessConfig(rig=f"bfm:{basel_file}")
    assert changed(config) == {"track"}
    heard: list[Event] = []
    tools = tools_for(config, heard.append)
    assert heard == []  # the rig is made when it is needed
    rig = tools.family()
    assert tools.family() is rig
    assert rig.personal(rig.sample(1, seed=1)[0]).actions.shape[0] == len(INDEX)
    assert [event.message for event in heard if isinstance(event, Notice)] == [
        "01_MorphableModel.mat: 0 of 52 actions are its own, the others are carried over"
    ]
    moved = tmp_path / "elsewhere.mat"
    moved.write_bytes(basel_file.read_bytes())
    assert configs(PreprocessConfig(rig=f"bfm:{moved}")) == configs(config)
    moved.write_bytes(basel_file.read_bytes()[:-1] + b"x")
    assert configs(PreprocessConfig(rig=f"bfm:{moved}")) != configs(config)


def test_another_detector_runs_what_looks_at_faces_again(tmp_path):
    model = tmp_path / "face_landmarker.task"
    model.write_bytes(b"a model")
    assert changed(PreprocessConfig(detector=f"face-landmarker:{model}")) == {"decode", "detect"}
    assert changed(PreprocessConfig(detector="face-alignment")) == {"decode", "detect"}
    assert tools_for(PreprocessConfig(detector="face-alignment"), lambda e: None).detector is FaceAlignmentDetector


def test_another_parser_runs_parsing_again_and_its_weights_are_named(monkeypatch, tmp_path):
    path = tmp_path / "parser.onnx"
    path.write_bytes(b"a network")
    module = types.ModuleType("onnxruntime")
    entry = types.SimpleNamespace(name="input", shape=[1, 3, 8, 8])
    module.InferenceSession = lambda *a, **k: types.SimpleNamespace(get_inputs=lambda: [entry])  # type: ignore[attr-defined]
    module.SessionOptions = types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    assert changed(PreprocessConfig(parser=f"bisenet:{path}")) == {"parse"}
    heard: list[Event] = []
    tools_for(PreprocessConfig(parser=f"bisenet:{path}"), heard.append)
    assert hashlib.sha256(b"a network").hexdigest() in str(heard)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"rig": "smpl:x.pkl"}, "--rig smpl: is none of anny, flame, bfm"),
        ({"rig": "flame"}, "--rig flame: needs FLAME's generic_model.pkl"),
        ({"rig": "flame:nowhere.pkl"}, "--rig flame: nowhere.pkl is missing"),
        ({"rig": "anny:x"}, "--rig anny: takes no file"),
        ({"rig_landmarks": "x.npz"}, "--rig-landmarks: the anny rig has its own"),
        ({"detector": "dlib"}, "--detector dlib: is none of mediapipe, face-landmarker, face-alignment"),
        ({"detector": "face-landmarker:nowhere.task"}, "nowhere.task is missing"),
        ({"parser": "bisenet"}, "--parser bisenet: needs an .onnx file"),
        ({"parser": "network"}, "--parser network: is none of rig, bisenet"),
    ],
)
def test_a_wrong_choice_is_told_with_what_there_is(choice, said):
    with pytest.raises(InputError) as caught:
        tools_for(PreprocessConfig(**choice), lambda event: None)
    assert said in str(caught.value)


def test_an_unusable_file_is_told_before_anything_runs(tmp_path):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(b"no model")
    for choice in (f"flame:{path}", f"bfm:{path}"):
        with pytest.raises(InputError, match=r"generic_model\.pkl"):
            tools_for(PreprocessConfig(rig=choice), lambda event: None)


def test_without_a_network_the_landmarkers_model_is_asked_for_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("AVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr("avatar.face.face_landmarker.ADDRESS", "http://127.0.0.1:9/face_landmarker.task")
    with pytest.raises(InputError) as caught:
        tools_for(PreprocessConfig(detector="face-landmarker"), lambda event: None)
    assert str(tmp_path / "face_landmarker.task") in str(caught.value)
    assert "3758596 bytes" in str(caught.value)


def test_points_that_a_detector_does_not_see_reach_the_tracker(tmp_path):
    """The stages hand `seen` from the detector over to the fit."""
    given: dict[str, Any] = {}

    class StoppedError(Exception):
        pass

    def noted(points, confidence, rig, size, **named):
        given.update(named)
        raise StoppedError

    class Folder:
        size, fps = (8, 8), 25.0

        def tensors(self, name):
            own = {"seen": torch.from_numpy(SEEN.astype(np.uint8)), "dark": torch.zeros(2)}
            points, segment = torch.zeros(2, 478, 2), torch.zeros(2, dtype=torch.int32)
            return {"landmarks_px": points, "confidence": torch.ones(2), "segment": segment, **own}, {}

    steps = Steps(video=Path("me.mp4"), config=PreprocessConfig(), tools=Tools(fit=noted, family=lambda: None))  # type: ignore[arg-type,return-value]
    run = Run(workspace=Folder(), stage="track", sink=lambda event: None, resumes=False)  # type: ignore[arg-type]
    with pytest.raises(StoppedError):
        steps.track(run)
    np.testing.assert_array_equal(given["footage"].seen, SEEN)
