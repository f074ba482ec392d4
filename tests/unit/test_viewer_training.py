"""Watching a training: what its events become in the browser, and that they reach who listened before."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the viewer needs avatar[viewer]")

import itertools

from PIL import Image

from avatar.events import Done, Draft, Event, Metric, Preview, Progress
from avatar.viewer.draft import Allowance
from avatar.viewer.training import TrainingWatch
from tests.contract import toy


def test_curves_progress_and_the_newest_picture_are_served_while_events_go_on() -> None:
    passed: list[Event] = []
    watch = TrainingWatch(passed.append)
    addresses: list[str] = []
    watch.open(0, addresses.append)
    try:
        events: list[Event] = [Progress(stage="train", done=50, total=200, unit="steps")]
        events += [Metric(stage="train", name="loss", value=1 / (k + 1), step=25 * k) for k in range(3)]
        events += [Done(stage="train", seconds=1.0)]
        for event in events:
            watch(event)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(addresses[0] + "picture.jpg")
        watch(Preview(stage="train", name="x", image=np.zeros((8, 16, 3), np.uint8)))
        state = json.loads(urllib.request.urlopen(addresses[0] + "state").read())
        assert state["progress"] == [50, 200] and state["pictures"] == 1
        assert state["curves"]["loss"] == [[0, 1.0], [25, 0.5], [50, pytest.approx(1 / 3)]]
        assert urllib.request.urlopen(addresses[0] + "picture.jpg").read()[:2] == b"\xff\xd8"
        assert b"training.js" in urllib.request.urlopen(addresses[0]).read()
        assert passed[: len(events)] == events
    finally:
        watch.close()


def test_the_avatar_is_seen_from_any_side_while_it_learns() -> None:
    watch, addresses = TrainingWatch(lambda event: None), []
    avatar, copies = toy.avatar(64, 400), []

    def copy():
        copies.append(1)
        return avatar

    watch(Draft(stage="train", step=25, copy=copy))
    assert not copies, "nobody looks, so nothing is copied"
    watch.open(0, addresses.append)
    try:
        urllib.request.urlopen(addresses[0] + "state").read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(addresses[0] + "draft.jpg")
        watch(Draft(stage="train", step=50, copy=copy))
        assert json.loads(urllib.request.urlopen(addresses[0] + "state").read())["draft"] == 50
        front, side = (
            np.asarray(Image.open(urllib.request.urlopen(f"{addresses[0]}draft.jpg?yaw={yaw}&full=1"))).astype(int)
            for yaw in (0, 0.8)
        )
        assert front.shape == (64, 64, 3) and np.abs(front - side).mean() > 3
        for wrong in ("yaw=left", "zoom=0", "pitch=nan"):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                urllib.request.urlopen(f"{addresses[0]}draft.jpg?{wrong}")
    finally:
        watch.close()


def test_drawing_takes_no_more_than_its_share_of_the_time() -> None:
    allowance, spent = Allowance(share=0.03, most=2.0, left=2.0, at=0.0), 0.0
    now = 0.0
    while now < 200.0:
        wait = allowance.wait(now)
        if wait > 0:
            now += max(wait, 1e-3)
            continue
        allowance.spend(0.04, now)
        spent, now = spent + 0.04, now + 0.04
    assert 0.9 * (0.03 * 200 + 2.0) < spent < 0.03 * 200 + 2.0 + 0.05


def test_a_long_curve_keeps_its_ends_and_its_length_is_bounded() -> None:
    watch = TrainingWatch(lambda event: None)
    for step in range(20_000):
        watch(Metric(stage="train", name="loss", value=float(step), step=step))
    curve = watch.curves["loss"]
    assert len(curve) <= 1500 and curve[0] == (0, 0.0) and curve[-1] == (19_999, 19_999.0)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(curve))
