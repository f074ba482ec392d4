"""Cuts are found at their frame, other shots have no weight, and nothing is smoothed across; flashes are no cuts."""

import numpy as np
import pytest

pytest.importorskip("mediapipe")

from drawn_people import Drawn, follow_head, rotation_error, steps_deg, talking, there_and_back, watch, weights

from avatar.preprocess.shots import CutFinder, Shot, sentence
from avatar.synthetic.clip import spec_of
from avatar.synthetic.speaker import Speaker

BOUND_DEG = 6.0
"""No used frame is further off; of the error about 4 degrees are the same in all frames, since so small a face leaves
its depth, and with it the direction of straight ahead, open."""
SHOTS = (40, 54, 66, 80, 100)
"""End of: the person, somebody else before the same wall, the person seen closer, the wall, the person elsewhere."""


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker(spec_of(0), strands=400, texture=96)


@pytest.fixture(scope="module")
def person(speaker) -> Drawn:
    return talking(speaker, 11)


@pytest.fixture(scope="module")
def film(person, speaker) -> Drawn:
    other = talking(Speaker(spec_of(3), strands=400, texture=96), 3)
    wall = Drawn(np.stack([speaker.backdrop((160, 160)).numpy()] * 14), person.T_world_head[[0] * 14])
    # One take of which a piece was cut out: the same person, a few pixels away.
    moved = Drawn(np.roll(person.frames, 9, axis=2), person.T_world_head)
    closer = Drawn(np.stack([enlarged(frame) for frame in person.frames]), person.T_world_head)
    parts = [there_and_back(11, 40), there_and_back(3, 14), there_and_back(11, 12)]
    return person[parts[0]] + other[parts[1]] + closer[parts[2]] + wall + moved[there_and_back(11, 20)]


def enlarged(frame: np.ndarray, part: float = 0.72) -> np.ndarray:
    """The upper middle of the picture, as large as the picture."""
    import cv2

    height, width = (round(side * part) for side in frame.shape[:2])
    top, left = (frame.shape[0] - height) // 3, (frame.shape[1] - width) // 2
    return cv2.resize(frame[top : top + height, left : left + width], frame.shape[1::-1])


@pytest.fixture(scope="module")
def watched(film):
    return watch(film)


@pytest.fixture(scope="module")
def track(watched):
    return follow_head(watched)[0]


def found_cuts(frames: np.ndarray) -> list[int]:
    finder = CutFinder()
    for frame in frames:
        finder.add(frame)
    return finder.cuts()


def test_each_cut_is_found_at_its_frame(watched) -> None:
    assert tuple(shot.end for shot in watched.shots) == SHOTS
    assert (np.flatnonzero(np.diff(watched.segments)) + 1).tolist() == list(SHOTS[:-1])


def test_other_people_framings_and_walls_are_left_out_and_named(watched) -> None:
    assert [shot.why for shot in watched.shots] == ["", "another person", "another framing", "nobody is seen", ""]
    assert sentence(watched.shots, 25.0) == (
        "cuts at 1.6 s, 2.2 s, 2.6 s, 3.2 s; 40 frames of other shots are left out "
        "(another person and another framing and nobody is seen)"
    )


def test_a_piece_cut_out_of_one_take_splits_it(person) -> None:
    moved = Drawn(np.roll(person.frames, 9, axis=2), person.T_world_head)
    shots = watch(person[there_and_back(11, 20)] + moved[there_and_back(11, 20)]).shots
    assert [(shot.first, shot.end, shot.why) for shot in shots] == [(0, 20, ""), (20, 40, "")]


def test_only_the_persons_shots_have_weight_and_are_followed_truly(film, track) -> None:
    weight, error = weights(track), rotation_error(track, film)
    assert (weight[SHOTS[0] : SHOTS[3]] == 0).all()
    assert (weight[: SHOTS[0]] > 0).mean() > 0.95
    assert (weight[SHOTS[3] :] > 0).mean() > 0.9
    assert error[(weight > 0)[: SHOTS[3]].nonzero()[0]].max() < BOUND_DEG


def test_nothing_is_smoothed_across_a_cut(track) -> None:
    inside = [np.arange(first, end - 1) for first, end in ((0, SHOTS[0]), (SHOTS[3], SHOTS[4]))]
    steps = steps_deg(track)
    assert steps[np.concatenate(inside)].max() < 5
    across = np.diff(track.motion.T_world_head[:, 0, 3].numpy())
    beside = across[[*range(SHOTS[0] - 6, SHOTS[0] - 1), *range(SHOTS[3], SHOTS[3] + 5)]]
    there, here = (track.motion.T_world_head[i, 0, 3] for i in (SHOTS[3], SHOTS[0] - 1))
    assert abs(there - here) > 4 * np.abs(beside).max()


def test_fast_turns_flashes_and_lamps_are_no_cuts(person: Drawn) -> None:
    fast = person.frames[there_and_back(11, 40)[::3]]
    assert found_cuts(fast) == []
    flash = person.frames[there_and_back(11, 40)].astype(float)
    for index, gain in ((8, 2.5), (20, 1.8), (21, 2.6), (22, 1.4)):
        flash[index] = (flash[index] * gain + 30).clip(0, 255)
    flash[30:] *= 0.6
    assert found_cuts(flash.astype(np.uint8)) == []


def test_sentence_counts_cuts_and_names_reasons_once() -> None:
    shots = [Shot(first=0, end=50), Shot(first=50, end=60, why="nobody is seen"), Shot(first=60, end=99)]
    assert sentence(shots, 25.0) == "cuts at 2.0 s, 2.4 s; 10 frames of another shot are left out (nobody is seen)"
    assert sentence(shots[:1], 25.0) == ""
    assert sentence([shots[0], Shot(first=50, end=60)], 25.0).startswith("cut at 2.0 s; all shots show the same person")
