"""Recording from a camera: the person is learned on the way and nothing of the stream is missing."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.build import record_live
from avatar.core import MotionSequence
from avatar.errors import InputError
from avatar.events import Done, Event, Progress
from avatar.face import AnnyRig
from avatar.face.arkit import INDEX
from avatar.face.landmarks import AbstractLandmarkDetector, FaceLandmarks
from avatar.face.streaming_person import learn_opening
from avatar.media.camera import camera_pictures
from avatar.preprocess import Tools, live
from avatar.preprocess.live import Recording, record

COUNT, FPS = 110, 25.0


def motion() -> MotionSequence:
    time = torch.arange(COUNT) / FPS
    expression = torch.zeros(COUNT, 52)
    expression[:, INDEX["jawOpen"]] = 0.4 * (1 - (10 * time).cos()) / 2
    blink = (1 - (time - 1.0).abs() * 8).clamp(0, 1)
    expression[:, INDEX["eyeBlinkLeft"]] = expression[:, INDEX["eyeBlinkRight"]] = blink
    pose = torch.eye(4).repeat(COUNT, 1, 1)
    turns = np.stack([0 * time, 0.25 * np.sin(4 * time), 0 * time], 1)
    pose[:, :3, :3] = torch.from_numpy(Rotation.from_rotvec(turns).as_matrix()).float()
    pose[:, :3, 3] = torch.tensor([0.0, 0.05, 0.9])
    gaze = torch.zeros(COUNT, 2, 2)
    return MotionSequence(expression=expression, T_world_head=pose, neck=torch.zeros(COUNT, 3), gaze=gaze, fps=FPS)


class Drawn(AbstractLandmarkDetector):
    """Finds the face of frame i in a picture whose pixels are i; 255 shows nobody."""

    def __init__(self, points: np.ndarray) -> None:
        self.points, self.closed = points, False

    def detect(self, frame: np.ndarray, seconds: float) -> list[FaceLandmarks]:
        index = int(frame[0, 0, 0])
        return [] if index == 255 else [FaceLandmarks(landmarks_px=self.points[index], score=1.0)]

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def detector() -> Drawn:
    rig = AnnyRig.load()
    head, moved = rig.personal(rig.sample(1, seed=5)[0]), motion()
    points = torch.stack([rig.landmarks.points(head.posed(moved.frame(i)), head.faces) for i in range(COUNT)])
    return Drawn((points[..., :2] / points[..., 2:] * 1300 + 256).numpy().astype(np.float32))


def run(detector: Drawn, shown: list[tuple[float, int]], fps: float = FPS) -> tuple[Recording, list[Event]]:
    events: list[Event] = []
    pictures = ((seconds, np.full((512, 512, 3), index, np.uint8)) for seconds, index in shown)
    tools = Tools(live_detector=lambda: detector)
    return record(pictures, tools, fps=fps, total=len(shown), sink=events.append), events


@pytest.fixture(scope="module")
def learned() -> list:
    """Who was learned from the steady stream."""
    return []


@pytest.fixture(scope="module")
def steady(detector, learned) -> tuple[Recording, list[Event]]:
    def remembered(*arguments, **more):
        learned.append(learn_opening(*arguments, **more))
        return learned[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "learn_opening", remembered)
        return run(detector, [(i / FPS, i) for i in range(COUNT)])


@pytest.fixture
def known(steady, learned, monkeypatch) -> list[int]:
    """The same person need not be learned again; gives how many frames it would have been learned from."""
    frames = []

    def known_already(points, *rest, **more):
        frames.append(len(points))
        return learned[0]

    monkeypatch.setattr(live, "learn_opening", known_already)
    return frames


def yaw(found: MotionSequence) -> np.ndarray:
    return -found.T_world_head[:, 0, 2].numpy()


def test_the_motion_has_every_frame_also_of_the_opening(steady):
    found = steady[0].motion
    assert len(found) == COUNT and found.fps == FPS
    assert np.corrcoef(yaw(found), yaw(motion()))[0, 1] > 0.98
    jaw = [m.expression[:, INDEX["jawOpen"]].numpy() for m in (found, motion())]
    assert np.corrcoef(jaw[0], jaw[1])[0, 1] > 0.9


def test_rest_is_neutral_and_between_the_turns(steady):
    recording = steady[0]
    assert float(recording.rest.expression[INDEX["jawOpen"]]) == 0
    assert yaw(recording.motion).min() < -float(recording.rest.T_world_head[0, 2]) < yaw(recording.motion).max()


def test_progress_reaches_the_end_and_facts_are_told(steady):
    recording, events = steady
    assert [e.done for e in events if isinstance(e, Progress)][-1] == COUNT
    facts = next(e.facts for e in events if isinstance(e, Done))
    assert facts["seen"] == recording.seen == 1.0
    assert 0 < facts["step_ms"][0] <= facts["step_ms"][1]


def test_an_uneven_camera_gives_an_even_motion(detector, known):
    times = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, 100)) / FPS
    shown = [(float(t), min(round(float(t - times[0]) * FPS), COUNT - 1)) for t in times]
    found = run(detector, shown)[0].motion
    assert len(found) == pytest.approx((times[-1] - times[0]) * FPS + 1, abs=1)
    count = min(len(found), COUNT)
    assert np.corrcoef(yaw(found)[:count], yaw(motion())[:count])[0, 1] > 0.97


def test_a_short_film_is_learned_from_as_it_is(detector, known):
    assert len(run(detector, [(i / FPS, i) for i in range(30)])[0].motion) == 30
    assert known == [30]


def test_pictures_without_a_face_are_refused_and_the_detector_closed(detector):
    detector.closed = False
    with pytest.raises(InputError, match="a face in 4 of 40 pictures"):
        run(detector, [(i / FPS, i if i < 4 else 255) for i in range(40)])
    assert detector.closed


def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(InputError, match="camera 97: cannot be opened"):
        list(camera_pictures(97, 1.0))


@pytest.mark.parametrize(("source", "out", "seconds", "says"), [
    ("97", "a.csv", 0.0, "more than 0"), ("97", "a.fbx", 1.0, "a.fbx"), ("nobody.mp4", "a.csv", 1.0, "nobody.mp4"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_recorded(tmp_path, source, out, seconds, says):
    with pytest.raises(InputError, match=says):
        record_live(source, tmp_path / out, seconds=seconds, sink=lambda event: None)
