"""The whole evaluation on a tiny subject whose avatar is a fake with a known error."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from avatar.core import AudioTrack, Camera, FaceTrack, MotionSequence, Region, RenderOutput
from avatar.errors import InputError
from avatar.evaluate import evaluation, motion, report, score
from avatar.evaluate.config import EvaluateConfig
from avatar.evaluate.metrics import LIPS
from avatar.evaluate.rows import Subject, nearest_frame, spoken
from avatar.evaluate.score import head_mask, peer_composite
from avatar.face.rig import PersonalRig
from avatar.media.workspace import Workspace
from avatar.ops import lpips
from tests.lpips_files import states, write

SIZE, FRAMES, FPS = 64, 20, 10.0


def _rig() -> PersonalRig:
    """Four corners of a square face; jawOpen pulls the lower two down."""
    corners = torch.tensor([[-0.1, -0.1, 0.0], [0.1, -0.1, 0.0], [-0.1, 0.1, 0.0], [0.1, 0.1, 0.0]])
    actions = torch.zeros(52, 4, 3)
    actions[:, 2:, 1] = 0.02
    return PersonalRig(
        neutral=corners,
        actions=actions,
        faces=torch.tensor([[0, 1, 2], [1, 3, 2]]),
        regions=torch.full((2,), int(Region.SKIN), dtype=torch.uint8),
        skin=torch.tensor([[1.0, 0.0, 0.0]] * 4),
        neck_pivots=torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0]]),
        eye_weights=torch.zeros(4, 2),
        eye_pivots=torch.zeros(2, 3),
        uv=torch.zeros(2, 3, 2),
    )


def _track() -> FaceTrack:
    """A head that moves to the right and back: frame i and frame FRAMES - 1 - i are alike."""
    sway = torch.tensor([min(i, FRAMES - 1 - i) for i in range(FRAMES)]) * 0.002
    pose = torch.eye(4).repeat(FRAMES, 1, 1)
    pose[:, 0, 3], pose[:, 2, 3] = sway, 0.6
    landmarks = torch.full((FRAMES, 478, 2), 20.0)
    landmarks[:, list(LIPS)] = torch.rand(FRAMES, 40, 2) * 12 + 30
    return FaceTrack(
        motion=MotionSequence(
            expression=torch.zeros(FRAMES, 52),
            T_world_head=pose,
            neck=torch.zeros(FRAMES, 3),
            gaze=torch.zeros(FRAMES, 2, 2),
            fps=FPS,
        ),
        identity=torch.zeros(4),
        camera=Camera(T_world_camera=torch.eye(4), focal=(100.0, 100.0), center=(32.0, 32.0), size=(SIZE, SIZE)),
        landmarks_px=landmarks,
        confidence=torch.ones(FRAMES),
    )


class _FakeAvatar:
    """Draws one grey everywhere, brighter with jawOpen's neighbourhood of actions."""

    def __init__(self) -> None:
        self.rig, self.meta = _rig(), SimpleNamespace(speech={}, trained={"recipe": "gaussian/fake", "seconds": 12.5})

    def render(self, request, background):
        level = 0.5 + 0.2 * request.motion.expression.mean()
        return RenderOutput(rgb=torch.full((*request.camera.size, 3), float(level)), alpha=torch.ones(SIZE, SIZE))


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    source = tmp_path / "me.mp4"
    source.write_bytes(b"not read here")
    workspace = Workspace.create(tmp_path / "me", source)
    workspace.set_frames(FPS, FRAMES, (SIZE, SIZE))
    rng = np.random.default_rng(0)
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[16:48, 16:48] = Region.SKIN
    for folder in ("frames", "parsing"):
        workspace.path(folder).mkdir()
    for i in range(FRAMES):
        base = np.kron(rng.integers(90, 160, (8, 8, 3)), np.ones((8, 8, 1)))
        workspace.write_picture("frames", i, base.astype(np.uint8))
        workspace.write_picture("parsing", i, labels)
    workspace.path("avatar").mkdir()
    workspace.path("avatar/weights.safetensors").write_bytes(b"0" * 250_000)
    workspace.write_json("quality.json", {"warnings": ["the face is <small>; film it larger"]})
    workspace.finish("decode", "k", ("frames",), 2.5, {"peak_mb": 1e6})
    return Subject(
        workspace=workspace,
        track=_track(),
        avatar=_FakeAvatar(),  # type: ignore[arg-type]
        train=list(range(15)),
        test=list(range(15, FRAMES)),
    )


@pytest.fixture
def without_detector(monkeypatch):
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)


def test_report_is_strict_json_with_every_row_and_number(subject, without_detector):
    events = []
    evaluation.evaluate_subject(subject, events.append, EvaluateConfig(strips=2, worst=1))
    folder = subject.workspace.path("report")

    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    found = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    assert tuple(found["rows"]) == report.ROW_NAMES
    assert found["rows"]["spoken"] is None
    assert "no sound" in found["absent"]["spoken"]
    for name in ("reenacted", "nearest_frame", "ground_truth"):
        assert set(found["rows"][name]) == {*report.COLUMNS, "frames"}
    truth, ours = found["rows"]["ground_truth"], found["rows"]["reenacted"]
    assert truth["psnr_frame"] is None
    assert truth["ssim"] == 1.0
    assert truth["flicker"] is None  # all of the toy film moves
    assert 15 < ours["psnr_frame"] < ours["psnr_peer"] < 40
    assert found["fps"] > 0
    assert found["file_mb"] == pytest.approx(0.25)
    assert found["build_seconds"] == 15.0
    assert found["peak_mb"] == 1e6
    assert ours["frames"]["psnr_frame"] == 5
    frames = json.loads((folder / "frames.json").read_text(), parse_constant=refuse)
    assert len(frames["rows"]["reenacted"]["psnr_frame"]) == 5
    assert [e.done for e in events if hasattr(e, "done")][-1] == 20  # 5 true frames, then 5 of each of 3 rows


def test_page_holds_every_row_needs_nothing_else_and_escapes_text(subject, without_detector):
    evaluation.evaluate_subject(subject, lambda event: None, EvaluateConfig(strips=2, worst=1))
    text = subject.workspace.path("report/index.html").read_text()
    for name in report.ROW_NAMES:
        assert f">{name}</th>" in text
    assert "&lt;small&gt;" in text
    assert "<small>" not in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    pictures = re.findall(r"<img [^>]*>", text)
    assert len(pictures) == 3 * 4 + 2  # true, reenacted, nearest, difference; two plots without a detector
    assert all(re.search(r'alt="[^"]{10,}"', tag) for tag in pictures)


def test_nearest_frame_is_the_training_frame_with_the_same_pose(subject):
    draw = nearest_frame(subject).draw
    for index in subject.test:
        twin = subject.workspace.frame(FRAMES - 1 - index)
        np.testing.assert_array_equal(draw(index), twin)


def test_nearest_sees_the_expression_as_well_as_the_pose():
    track = _track()
    expression = torch.zeros(FRAMES, 52)
    expression[4:8] = 0.1
    moved = MotionSequence(**{**vars(track.motion), "expression": expression})
    seen = motion.seen_points(moved, _rig(), track.camera)
    assert motion.nearest(seen[5:6], seen[[0, 1, 6, 14]]).tolist() == [2]


def test_spoken_takes_the_mouth_from_the_sound_and_the_rest_from_the_track(subject):
    heard = []

    def speech(audio: AudioTrack, fps: float, seed: int = 0) -> MotionSequence:
        heard.append(audio.seconds)
        count = round(audio.seconds * fps)
        still = _track().motion
        return MotionSequence(
            expression=torch.ones(count, 52), T_world_head=torch.eye(4).repeat(count, 1, 1),
            neck=still.neck[:count] + 1, gaze=still.gaze[:count] + 1, fps=fps,
        )  # fmt: skip

    with pytest.raises(InputError, match="no sound"):
        spoken(subject, speech)  # type: ignore[arg-type]
    silence = AudioTrack(samples=np.zeros(32_000, np.float32), rate=16_000)
    subject.workspace.write_audio("audio.wav", silence)
    row = spoken(subject, speech)  # type: ignore[arg-type]
    assert heard == [pytest.approx(2.0)]  # the five held-out frames end at 2 s, and the lead reaches to the start
    # 32 of 52 actions belong to the mouth, so the fake's grey is 0.5 + 0.2 * 32 / 52
    assert int(row.draw(17)[0, 0, 0]) == round(255 * (0.5 + 0.2 * len(motion.SPOKEN) / 52))
    mixed = motion.lips_from_speech(_track().motion, speech(silence, FPS))
    assert float(mixed.neck.abs().max()) == 0.0
    torch.testing.assert_close(mixed.T_world_head, _track().motion.T_world_head)


def test_peer_composite_replaces_all_but_the_head():
    labels = np.zeros((40, 40), np.uint8)
    labels[10:20, 10:20] = Region.HAIR
    labels[20:30, 10:20] = Region.NECK
    drawn, true = np.full((40, 40, 3), 200, np.uint8), np.zeros((40, 40, 3), np.uint8)
    composite = peer_composite(drawn, true, head_mask(labels))
    assert composite[15, 15, 0] == 200
    assert composite[25, 15, 0] == 0
    assert composite[9, 9, 0] == 200  # the head's edge counts too
    assert composite[8, 8, 0] == 0


def test_flicker_is_a_ratio_of_means_over_the_frames_that_follow_another():
    nan, names = float("nan"), (*score.PICTURE_METRICS, *score.FACE_METRICS)
    row = {name: np.full(3, nan) for name in names}
    row |= {"change": np.array([nan, 1.0, 2.0]), "true_change": np.array([nan, 1.0, 1.0])}
    assert report.summary(row, np.full(3, nan))["flicker"] == 1.5
    assert report.summary(row | {"true_change": np.zeros(3)}, np.full(3, nan))["flicker"] is None


class _FakeDetector:
    """Finds lips that are as far apart as the picture is bright."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.closed = False

    def detect(self, frame: np.ndarray, seconds: float) -> list[SimpleNamespace]:
        self.times.append(seconds)
        points = np.zeros((478, 2), np.float32)
        points[[87, 14, 317], 1] = frame.mean() / 10
        return [SimpleNamespace(landmarks_px=points)]

    def close(self) -> None:
        self.closed = True


def _scored(rows, made, indices=range(4)):
    def frame(index: int) -> np.ndarray:
        return np.full((SIZE, SIZE, 3), 40 + 20 * index, np.uint8)

    def detector() -> _FakeDetector:
        made.append(_FakeDetector())
        return made[-1]

    truth = score.Truth(
        frame=frame, labels=lambda index: np.full((SIZE, SIZE), Region.SKIN, np.uint8),
        landmarks=lambda index: np.full((478, 2), 20.0), indices=list(indices), fps=FPS,
    )  # fmt: skip
    return score.score(truth, rows, EvaluateConfig(), lambda event: None, detector)  # type: ignore[arg-type]


def _row(name: str, brightness: float) -> score.Row:
    def draw(index: int) -> np.ndarray:
        return np.full((SIZE, SIZE, 3), brightness * (40 + 20 * index), np.uint8)

    return score.Row(name=name, meaning="", draw=draw)


def test_each_row_has_a_detector_of_its_own_that_sees_its_frames_in_their_order():
    made: list[_FakeDetector] = []
    _scored([_row("reenacted", 1.0), _row("spoken", 0.5)], made)
    assert [detector.times for detector in made] == [[0.0, 0.1, 0.2, 0.3]] * 3
    assert all(detector.closed for detector in made)


def test_lips_of_each_row_are_compared_with_those_of_the_true_frames():
    series = _scored([_row("reenacted", 1.0), _row("spoken", 0.5)], [])
    found = {name: report.summary(row, series.true_gap) for name, row in series.rows.items()}
    assert found["reenacted"]["lip_gap_slope"] == pytest.approx(1.0)
    assert found["spoken"]["lip_gap_slope"] == pytest.approx(0.5)
    assert found["reenacted"]["lmd_px"] == pytest.approx(0.0)
    assert found["spoken"]["lmd_px"] > 1.0


def test_what_a_row_cannot_draw_ends_the_scoring():
    def broken(index: int) -> np.ndarray:
        raise InputError("the disk is gone")

    with pytest.raises(InputError, match="disk"):
        _scored([score.Row(name="reenacted", meaning="", draw=broken)], [])


def test_worst_moments_lie_apart(subject):
    numbers = np.array([9.0, 1.0, 2.0, 8.0])
    series = evaluation.Series(
        indices=[0, 30, 31, 60], rows={"reenacted": {"psnr_frame": numbers}}, true_gap=np.zeros(4)
    )
    assert report.worst_positions(series, 3) == [1, 3, 0]


def test_a_workspace_with_nothing_held_out_is_refused(subject):
    subject.workspace.write_json("split.json", {"train": [0, 1, 2], "test": []})
    with pytest.raises(InputError, match="held out"):
        evaluation.open_subject(subject.workspace)


def test_a_report_of_the_same_things_is_not_made_again(subject, without_detector, monkeypatch):
    for name in evaluation.FILES:
        subject.workspace.path(f"avatar/{name}").write_bytes(b"1")
    subject.workspace.write_json("split.json", {"train": [0], "test": [19]})
    monkeypatch.setattr(evaluation, "open_subject", lambda workspace, truth: subject)
    events = []
    first = evaluation.evaluate(subject.workspace.root, events.append)
    assert evaluation.evaluate(subject.workspace.root, events.append) == first
    assert [event.skipped for event in events if hasattr(event, "skipped")] == [False, True]
    subject.workspace.path("avatar/weights.safetensors").write_bytes(b"2")
    evaluation.evaluate(subject.workspace.root, events.append)
    assert not events[-1].skipped


def test_lpips_is_in_the_report_where_its_weights_are(subject, without_detector, tmp_path, monkeypatch):
    folder, few = subject.workspace.path("report"), EvaluateConfig(strips=2, worst=1, lpips_frames=3)
    found = evaluation.evaluate_subject(subject, lambda _: None, few)
    assert found["rows"]["reenacted"]["lpips"] is None and "alexnet-owt" in found["absent"]["lpips"]
    assert "LPIPS" not in (folder / "index.html").read_text().split("What the numbers mean")[0]
    made = write(*states(), tmp_path / "weights")
    for module in (evaluation, score, lpips):
        monkeypatch.setattr(module, "weight_files", lambda: made)
    found = evaluation.evaluate_subject(subject, lambda _: None, few)
    assert "lpips" not in found["absent"]
    assert found["rows"]["ground_truth"]["lpips"] == pytest.approx(0, abs=1e-6)
    assert found["rows"]["reenacted"]["lpips"] > 0 and found["rows"]["reenacted"]["frames"]["lpips"] == 3
    assert "LPIPS" in (folder / "index.html").read_text().split("What the numbers mean")[0]
