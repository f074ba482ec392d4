"""Watching a training: what its events become in the browser, and that they reach who listened before."""

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the viewer needs avatar[viewer]")

import itertools

from avatar.events import Done, Event, Metric, Preview, Progress
from avatar.viewer.training import TrainingWatch


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


def test_a_long_curve_keeps_its_ends_and_its_length_is_bounded() -> None:
    watch = TrainingWatch(lambda event: None)
    for step in range(20_000):
        watch(Metric(stage="train", name="loss", value=float(step), step=step))
    curve = watch.curves["loss"]
    assert len(curve) <= 1500 and curve[0] == (0, 0.0) and curve[-1] == (19_999, 19_999.0)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(curve))
