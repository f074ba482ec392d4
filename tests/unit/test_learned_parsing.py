"""A face parsing network's classes become regions around the face; all else stays the rig's."""

import sys
import types

import numpy as np
import pytest
import torch

from avatar.core import Camera, MotionFrame, Region
from avatar.errors import InputError
from avatar.face import AnnyRig
from avatar.face.learned_parsing import FaceParsingNetwork, LearnedParser, square_around
from avatar.face.parsing import Parser
from tests.onnx_file import write_convolution

pytest.importorskip("cv2")
CLASSES = {
    1: Region.SKIN, 2: Region.BROWS, 3: Region.BROWS, 4: Region.EYES, 5: Region.EYES, 7: Region.EARS, 8: Region.EARS,
    9: Region.EARS, 10: Region.NOSE, 11: Region.MOUTH, 12: Region.LIPS, 13: Region.LIPS, 14: Region.NECK,
    15: Region.NECK, 16: Region.TORSO, 17: Region.HAIR, 18: Region.HAIR,
}  # fmt: skip
"""Of CelebAMask-HQ, those that tell a region."""


class FakeSession:
    """As onnxruntime.InferenceSession: tells the class that is written in the picture's red, 0 to 18."""

    shape: tuple = (1, 3, 64, 64)
    kinds = 19
    asked: tuple[np.ndarray, ...] = ()

    def __init__(self, path, options, providers):
        assert options.intra_op_num_threads == 1
        assert providers == ["CPUExecutionProvider"]

    def get_inputs(self):
        return [types.SimpleNamespace(name="input", shape=list(type(self).shape))]

    def run(self, outputs, inputs):
        assert outputs is None
        values = inputs["input"]
        assert values.dtype == np.float32
        assert values.shape == (1, 3, 64, 64)
        type(self).asked = (values,)
        red = np.round((values[0, 0] * 0.229 + 0.485) * 255 / 10)
        return [np.stack([np.where(red == k, 5.0, -5.0) for k in range(self.kinds)])[None]]


@pytest.fixture
def network(monkeypatch, tmp_path) -> FaceParsingNetwork:
    module = types.ModuleType("onnxruntime")
    kind = type("InferenceSession", (FakeSession,), {})
    module.InferenceSession, module.SessionOptions = kind, types.SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    path = tmp_path / "parser.onnx"
    path.write_bytes(b"a network")
    return FaceParsingNetwork(path)


@pytest.fixture(scope="module")
def scene():
    """A head in front of a gray wall: rig, camera, motion, mask and landmarks."""
    family = AnnyRig.load()
    rig = family.personal(torch.zeros(family.identity_size))
    camera = Camera(T_world_camera=torch.eye(4), focal=(500.0, 500.0), center=(128.0, 128.0), size=(256, 256))
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.0, 0.03, 0.9])
    motion = MotionFrame(expression=torch.zeros(52), T_world_head=pose, neck=torch.zeros(3), gaze=torch.zeros(2, 2))
    landmarks_px = camera.project(family.landmarks.points(rig.posed(motion), rig.faces)).numpy()
    shown = Parser(rig, camera, 4).rig_regions(motion) > 0
    mask = (shown.repeat(2, 0).repeat(2, 1) * 255).astype(np.uint8)
    return rig, camera, motion, mask, landmarks_px


def frame_of(kind: int) -> np.ndarray:
    return np.full((256, 256, 3), (10 * kind, 90, 90), np.uint8)


def parsed(network: FaceParsingNetwork, scene, kind: int, *, found: bool = True):
    rig, camera, motion, mask, landmarks_px = scene
    parsers = LearnedParser(network, rig, camera, 4), Parser(rig, camera, 4)
    points = landmarks_px if found else None
    for parser in parsers:
        for index in parser.survey_indices:
            parser.survey(index, frame_of(kind), mask, motion)
    return tuple(parser.parse(frame_of(kind), mask, motion, points) for parser in parsers)


@pytest.mark.parametrize(
    ("kind", "region"), [(1, Region.SKIN), (17, Region.HAIR), (12, Region.LIPS), (14, Region.NECK)]
)
def test_classes_become_regions_inside_of_the_square_and_nowhere_else(network, scene, kind, region):
    learned, plain = parsed(network, scene, kind)
    left, top, side = square_around(scene[4])
    inside = np.zeros(learned.labels.shape, bool)
    inside[max(top, 0) : top + side, max(left, 0) : left + side] = True
    person = plain.labels > 0
    assert (inside & person).sum() > 1000
    assert (learned.labels[inside & person] == region).all()
    np.testing.assert_array_equal(learned.labels[~inside | ~person], plain.labels[~inside | ~person])
    np.testing.assert_array_equal(learned.alpha, plain.alpha)


@pytest.mark.parametrize("kind", [0, 6])
def test_where_the_network_sees_background_or_glasses_the_rig_is_asked(network, scene, kind):
    learned, plain = parsed(network, scene, kind)
    np.testing.assert_array_equal(learned.labels, plain.labels)


def test_without_a_face_the_network_is_not_asked(network, scene):
    learned, plain = parsed(network, scene, 17, found=False)
    np.testing.assert_array_equal(learned.labels, plain.labels)
    assert network._session.asked == ()


def test_every_class_has_its_region(network, scene):
    rig, camera, motion, mask, landmarks_px = scene
    parser = LearnedParser(network, rig, camera, 4)
    for index in parser.survey_indices:
        parser.survey(index, frame_of(17), mask, motion)
    row, column = landmarks_px[4, ::-1].astype(int)
    for kind, region in CLASSES.items():
        assert parser.parse(frame_of(kind), mask, motion, landmarks_px).labels[row, column] == region, kind


def test_the_square_holds_the_face_and_reaches_over_the_pictures_edge(network, scene):
    left, top, side = square_around(scene[4])
    assert (scene[4] > (left, top)).all()
    assert (scene[4] < (left + side, top + side)).all()
    rig, camera, motion, mask, landmarks_px = scene
    parser = LearnedParser(network, rig, camera, 4)
    for index in parser.survey_indices:
        parser.survey(index, frame_of(17), mask, motion)
    away = landmarks_px - np.array([120.0, 110.0])
    maps = parser.parse(frame_of(17), mask, motion, away)
    assert maps.labels.shape == (256, 256)


def test_pictures_reach_the_network_as_it_was_trained(network):
    network.classes(np.full((30, 20, 3), (124, 116, 104), np.uint8))  # ImageNet's mean
    assert np.abs(network._session.asked[0]).max() < 0.01


def test_networks_of_other_shapes_are_refused(network, monkeypatch, tmp_path):
    monkeypatch.setattr(type(network._session), "kinds", 11)
    with pytest.raises(InputError, match=r"shape \(1, 11, 64, 64\)"):
        network.classes(frame_of(1))
    monkeypatch.setattr(type(network._session), "shape", (1, 80, 100))
    with pytest.raises(InputError, match="pictures"):
        FaceParsingNetwork(tmp_path / "parser.onnx")
    with pytest.raises(InputError, match="missing"):
        FaceParsingNetwork(tmp_path / "none.onnx")


def test_without_onnxruntime_it_is_said_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="pip install onnxruntime"):
        FaceParsingNetwork(tmp_path / "parser.onnx")


def test_a_real_network_is_run_by_onnxruntime(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime, which runs learned parsers, is not installed")
    weights = np.zeros((19, 3))
    weights[17, 0], weights[1, 0], weights[10, 1] = -1, 1, 3
    path = tmp_path / "tiny.onnx"
    write_convolution(path, weights, np.zeros(19), 64)
    network = FaceParsingNetwork(path)
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[:, 40:80, 0] = 255
    picture[:, 80:, 1] = 255
    classes = network.classes(picture)
    assert classes.shape == (90, 120)
    assert (classes[:, :38] == 17).all()
    assert (classes[:, 42:78] == 1).all()
    assert (classes[:, 82:] == 10).all()
    path.write_bytes(b"no network")
    with pytest.raises(InputError, match=r"tiny\.onnx: no readable ONNX"):
        FaceParsingNetwork(path)
