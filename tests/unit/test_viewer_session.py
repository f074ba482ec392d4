"""Which picture a client gets next, and what a recording keeps of it."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from avatar.config import to_dict
from avatar.media import open_clip
from avatar.speech.style import SpeechStyle
from avatar.viewer import performance
from avatar.viewer.engine import Engine, Pace
from avatar.viewer.painter import Painter
from avatar.viewer.performance import Performance, Voice, restyled
from avatar.viewer.protocol import Clock, Picture, unpacked
from avatar.viewer.recording import Recording, film, sound_of, suffix_of, whole
from avatar.viewer.session import AHEAD, IN_FLIGHT, NEVER, STILL, Order, Session
from avatar.viewer.view import Look, View, Viewpoint
from tests.contract import pulses, toy


def session() -> Session:
    return Session(name="test", deliver=lambda data: None, tell=lambda text: None)


def drawn(order: Order, full: bool) -> Picture:
    return Picture(
        jpeg=b"", version=order.view.version, take=order.take, seconds=order.seconds, timed=order.timed, full=full,
        size=(8, 8), draw_ms=1.0, unseen=0.0,
    )  # fmt: skip


def carry_out(client: Session, now: float, lead: float = 0.0) -> Order:
    order = client.order(now, lead)
    assert isinstance(order, Order)
    client.finished(order, drawn(order, full=order.wants_full))
    client.acknowledge(client.sent)
    return order


def carry_out_all(client: Session, now: float) -> list[float]:
    """The moments of all pictures that are wanted now."""
    seconds = []
    while isinstance(order := client.order(now, 0.0), Order):
        client.finished(order, drawn(order, full=True))
        client.acknowledge(client.sent)
        seconds.append(order.seconds)
    return seconds


def talking(seconds: float = 3.0) -> Performance:
    return Performance(name="pulses", motion=pulses.motion(seconds), sound=pulses.sound(seconds))


def test_the_newest_view_wins_and_rests_in_full() -> None:
    client = session()
    for version in range(1, 6):
        client.see(View(version=version), now=10.0 + version / 1000)
    assert carry_out(client, 10.01).view.version == 5
    assert not isinstance(client.order(10.02, 0.0), Order), "nothing changed"
    full = carry_out(client, 10.02 + STILL)
    assert full.wants_full and full.view.version == 5
    assert client.order(99.0, 0.0) == NEVER
    client.see(View(version=5), now=100.0)
    assert client.order(100.0, 0.0) == NEVER, "the same view again changes nothing"


def test_a_client_that_takes_nothing_gets_no_more_than_it_has_room_for() -> None:
    client = session()
    sent = 0
    for version in range(50):
        client.see(View(version=version), now=float(version))
        order = client.order(float(version), 0.0)
        if isinstance(order, Order):
            client.finished(order, drawn(order, full=False))
            sent += 1
    assert sent == IN_FLIGHT
    client.acknowledge(2)
    assert isinstance(client.order(60.0, 0.0), Order)
    client.acknowledge(10**9)
    assert client.arrived == client.sent, "a client cannot make itself more room than there is"


def test_pictures_of_speech_come_in_order_ahead_of_the_sound_and_skip_what_is_too_late() -> None:
    client = session()
    client.perform(talking(), now=0.0)
    client.hear(Clock(take=1, seconds=0.0, playing=True), now=0.0)
    times = carry_out_all(client, 0.0)
    assert len(times) > 4 and times == pytest.approx([i / 25 for i in range(len(times))])
    assert times[-1] <= AHEAD < times[-1] + 2 / 25
    late = carry_out(client, 2.0, lead=0.05)
    assert 2.05 <= late.seconds < 2.05 + 1 / 25
    over = client.order(3.5, 0.0)
    assert isinstance(over, Order) and not over.timed, "the end is shown as a still picture"


def test_a_slow_machine_shows_pictures_late_rather_than_none() -> None:
    client = session()
    client.perform(talking(), now=0.0)
    client.hear(Clock(take=1, seconds=0.0, playing=True), now=0.0)
    assert carry_out(client, 0.0, lead=5.0).timed
    assert carry_out(client, 1.0, lead=5.0).timed


def test_pictures_that_take_long_are_begun_as_long_before_their_time() -> None:
    client = session()
    client.perform(talking(), now=0.0)
    client.hear(Clock(take=1, seconds=0.0, playing=True), now=0.0)
    for now in (0.0, 0.6, 1.2):  # each is there 0.6 s after it was asked for
        order = carry_out(client, now, lead=0.6)
        assert now + 0.6 <= order.seconds < now + 0.6 + 2 / 25


def test_a_change_while_it_talks_is_seen_at_once_and_not_after_what_waits() -> None:
    client = session()
    client.perform(talking(), now=0.0)
    client.hear(Clock(take=1, seconds=0.0, playing=True), now=0.0)
    assert carry_out_all(client, 0.0)
    client.see(View(version=7), now=0.02)
    order = carry_out(client, 0.02, lead=0.01)
    assert order.view.version == 7 and order.seconds <= 0.08


def test_a_pace_keeps_the_size_that_it_can_afford() -> None:
    pace = Pace(full_height=512, seconds=0.02)
    assert pace.fitting(0.03, 256) == 512
    for _ in range(50):
        pace.learn(512, 0.05)
    assert pace.fitting(0.03, 256) == 256
    pace.learn(512, 60.0)
    assert pace.seconds < 0.08, "one picture that was held up says little"
    assert pace.fitting(0.03, 384) == 384
    assert Pace(full_height=128).fitting(0.0, 384) == 128
    slow = Pace(full_height=512)
    for _ in range(5):
        slow.learn(512, 0.5)
    assert slow.expected(384) > 0.2, "an avatar that is slow is known to be after a few pictures"


def test_an_engine_draws_for_all_clients_beside_one_that_takes_nothing() -> None:
    got: dict[str, list[int]] = {"a": [], "b": [], "stopped": []}
    engine, lock = Engine(Painter(toy.avatar(64, 400))), threading.Lock()
    clients: dict[str, Session] = {}

    def deliver(name: str, data: bytes) -> None:
        number, picture = unpacked(data)
        with lock:
            got[name].append(picture.version)
        if name != "stopped":
            clients[name].acknowledge(number)

    for name in got:
        clients[name] = Session(name=name, deliver=lambda data, n=name: deliver(n, data), tell=lambda text: None)
        engine.add(clients[name])
    for version in range(1, 200):
        for client in clients.values():
            client.see(View(version=version, viewpoint=Viewpoint(yaw=version / 200)), time.monotonic())
        engine.wake()
        time.sleep(0.002)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and not (got["a"][-1:] == [199] and got["b"][-1:] == [199]):
        time.sleep(0.02)
    engine.close()
    assert got["a"][-1] == got["b"][-1] == 199
    assert len(got["stopped"]) == IN_FLIGHT
    assert got["a"] == sorted(got["a"])


def test_a_recording_of_an_open_microphone_holds_the_voice_with_its_lips() -> None:
    sound, voice, client = pulses.sound(2.0), Voice(), session()
    for piece in np.array_split(sound.samples, 50):
        voice.add(piece)
    recording = Recording(client, 50.0)
    motion = pulses.motion(2.0)
    for i in range(5, 40):  # the lips of moment i come a fifth of a second late, and not evenly
        jitter = 0.03 * (i % 3)
        lips = Performance(name="m", motion=motion.select(slice(i, i + 1)), voice=voice, voice_at=i / 25)
        client.perform(lips, now=50.4 + i / 25 + (jitter if i > 5 else 0.0))
    client.perform(talking(), now=52.2)
    found = sound_of(recording.stop(52.5))
    assert found is not None and found.seconds == pytest.approx(2.5)
    expected = sound.between(0.2, 0.2 + 1.6).samples
    heard = found.between(0.6, 2.2).samples
    np.testing.assert_allclose(heard[400:-400], expected[400:-400], atol=1e-3)
    assert np.abs(found.between(0.0, 0.6).samples).max() == 0 == np.abs(found.between(2.2, 2.5).samples).max()


def test_a_voice_forgets_what_no_recording_can_hold(monkeypatch) -> None:
    monkeypatch.setattr(performance, "LONGEST_RECORDING", 1.0)
    voice = Voice()
    for value in (0.1, 0.2, 0.3, 0.4):
        voice.add(np.full(24_000, value, np.float32))
    assert voice._kept <= 1.5 * 48_000
    found = [float(voice.between(at, at + 0.01).samples[5]) for at in (0.1, 0.6, 1.1, 1.6, 2.1)]
    assert found == pytest.approx([0.0, 0.2, 0.3, 0.4, 0.0], abs=1e-3)


@pytest.mark.parametrize(("is_live", "seconds", "height"), [(False, 0.1, 256), (True, 0.1, 384), (True, 9.0, 256)])
def test_a_mouth_that_talks_is_drawn_large_unless_that_would_take_long(is_live, seconds, height) -> None:
    sizes: list[int] = []
    engine = Engine(Painter(toy.avatar(512, 400)))
    engine._pace.seconds = seconds
    client = Session(name="x", deliver=lambda data: sizes.append(unpacked(data)[1].size[0]), tell=lambda text: None)
    client.perform(replace(talking(), voice=Voice() if is_live else None), time.monotonic())
    engine.add(client)
    deadline = time.monotonic() + 5
    while not sizes and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.close()
    assert sizes[0] == height


def test_a_broken_wish_is_told_and_not_repeated() -> None:
    told: list[str] = []
    engine = Engine(Painter(toy.avatar(64, 400)))
    client = Session(name="x", deliver=lambda data: None, tell=told.append)
    engine.add(client)
    client.see(View(version=1, look=Look(background="blurple")), time.monotonic())
    engine.wake()
    time.sleep(0.6)
    engine.close()
    assert 1 <= len(told) <= 2 and "blurple" in told[0]


def test_a_recording_holds_pause_jump_and_change_in_sync(tmp_path) -> None:
    painter, client = Painter(toy.avatar(64, 800)), session()
    performance = talking()
    client.perform(performance, now=100.0)
    client.hear(Clock(take=1, seconds=0.4, playing=True), now=100.0)
    recording = Recording(client, 100.0)
    client.hear(Clock(take=2, seconds=1.0, playing=False), now=100.6)  # paused at 1.0
    client.see(View(version=2, look=Look(background="#00ff00")), now=100.8)
    client.hear(Clock(take=3, seconds=1.9, playing=True), now=101.0)  # jumped on
    client.see(View(version=3, look=Look(background="#00ff00")), now=101.1)
    moments = recording.stop(101.4)
    sound = sound_of(moments)
    assert sound is not None and sound.seconds == pytest.approx(1.4)
    expected = np.concatenate([
        performance.sound.between(0.4, 1.0).samples, np.zeros(19_200), performance.sound.between(1.9, 2.3).samples
    ])  # fmt: skip
    inner = np.ones(len(expected), bool)
    for cut in (0, 28_800, 48_000, len(expected)):
        inner[max(cut - 300, 0) : cut + 300] = False
    np.testing.assert_allclose(sound.samples[inner], expected[inner], atol=1e-5)
    out = tmp_path / "film.mp4"
    for _ in film(moments, client, painter, out, lambda done, total: None):
        pass
    clip = open_clip(out)
    assert len(clip.frames) == 35 and clip.audio is not None
    first, last = clip.frames[2].astype(int), clip.frames[34].astype(int)
    assert np.abs(last[3, 3] - [0, 255, 0]).max() < 30 < np.abs(first[3, 3] - [0, 255, 0]).max()


def test_a_film_with_a_transparent_background_keeps_it_where_it_was(tmp_path) -> None:
    import av

    painter, client = Painter(toy.avatar(64, 800)), session()
    start, end = whole(talking(1.0), View(look=Look(background="transparent")))
    moments = [start, replace(start, at=0.6, view=View(look=Look(background="#00ff00"))), end]
    moments[1] = replace(moments[1], clock=replace(start.clock, seconds=0.6))
    assert suffix_of(moments) == ".webm" and suffix_of(whole(talking(1.0), View())) == ".mp4"
    out = tmp_path / "film.webm"
    for _ in film(moments, client, painter, out, lambda done, total: None):
        pass
    with av.open(str(out)) as container:
        assert container.streams.audio
        codec = av.CodecContext.create("libvpx-vp9", "r")  # the decoder that knows alpha
        stream = container.streams.video[0]
        packets = list(container.demux(stream))
        frames = [f.to_ndarray(format="rgba") for p in packets for f in (codec.decode(p) if p.size else codec.decode())]
    assert len(frames) == 25
    assert frames[3][2, 2, 3] < 10 and frames[3][30, 32, 3] > 240
    assert frames[20][2, 2, 3] > 240 and np.abs(frames[20][2, 2, :3].astype(int) - [0, 255, 0]).max() < 40


def test_a_film_of_a_whole_performance_lasts_as_long_as_it() -> None:
    moments = whole(talking(2.0), View())
    sound = sound_of(moments)
    assert moments[-1].at == 2.0 and sound is not None and sound.seconds == 2.0


def test_a_recording_without_sound_has_none() -> None:
    client = session()
    recording = Recording(client, 0.0)
    client.see(View(version=1), now=0.5)
    assert sound_of(recording.stop(1.0)) is None


def test_another_style_moves_the_same_words_more_or_less() -> None:
    from avatar.face.arkit import INDEX
    from avatar.speech.phones import Phone
    from avatar.speech.rule_motion import RuleMotion

    avatar, sound = toy.avatar(64, 400), pulses.sound(2.0)
    avatar.meta = replace(avatar.meta, speech=to_dict(SpeechStyle()))
    phones = [Phone("SIL", 0.0, 0.3), Phone("AA", 0.3, 1.0), Phone("SIL", 1.0, 2.0)]
    lips = lambda way: RuleMotion(way, lambda _: [phones])  # noqa: E731
    spoken = Performance(name="a", motion=pulses.motion(2.0), sound=sound, lips=lips)
    jaws = {
        style: float(restyled(spoken, avatar, style).motion.expression[:, INDEX["jawOpen"]].max())
        for style in ("calm", "own", "lively")
    }
    assert jaws["calm"] < jaws["own"] < jaws["lively"]
    recorded = Performance(name="b", motion=pulses.motion(2.0), sound=sound)
    assert restyled(recorded, avatar, "calm") is recorded
