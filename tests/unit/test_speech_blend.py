"""Lips for chances of phones are those for the phones where these are sure, and lie between where they are not."""

from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")

from avatar.speech.acoustics import acoustic_tables
from avatar.speech.articulation import SHARP, articulate, drawn_apart
from avatar.speech.blend import blended
from avatar.speech.phones import Phone
from avatar.speech.visemes import JAW, PUCKER, SPREAD

HZ = 50.0
WORDS = "HH AH L OW W ER L D SIL S IY M AA S UW SH EH F V AW T"


def chances(symbols: Sequence[str], length: int) -> np.ndarray:
    """Each phone for so many frames, for sure."""
    names = acoustic_tables().phones
    said = np.repeat([names.index(s) for s in symbols], length)
    return np.eye(len(names))[said]


def test_sure_chances_move_the_lips_as_the_phones_do():
    symbols = WORDS.split()
    phones = [Phone(s, 0.1 * i - 0.5 / HZ, 0.1 * (i + 1) - 0.5 / HZ) for i, s in enumerate(symbols)]
    found = blended(chances(symbols, 5), HZ)
    wanted = drawn_apart(articulate(phones, np.arange(len(found)) / HZ, SHARP))
    for part in (JAW, PUCKER, SPREAD):
        assert np.corrcoef(found[:, part], wanted[:, part])[0, 1] > 0.9
        assert 0.7 < found[:, part].std() / wanted[:, part].std() < 1.3


def test_between_two_phones_the_lips_lie_between():
    i, u = (blended(chances([s], 60), HZ)[30] for s in ("IY", "UW"))
    both = blended(0.5 * chances(["IY"], 60) + 0.5 * chances(["UW"], 60), HZ)[30]
    for part in (JAW, PUCKER, SPREAD):
        assert min(i[part], u[part]) < both[part] < max(i[part], u[part])


def test_a_phone_counts_once_however_long_it_lasts():
    silence = chances(["SIL"], 60)
    short, long = silence.copy(), silence.copy()
    short[29:31], long[20:31] = chances(["AA"], 2), chances(["AA"], 11)
    one, other = (blended(said, HZ)[30] for said in (short, long))
    assert one[JAW] == pytest.approx(other[JAW], rel=0.02)


def test_a_diphthong_glides_from_its_first_half_to_its_second():
    both, first, last = (blended(chances(s, n), HZ) for s, n in ((["AY"], 10), (["AA"], 10), (["IH"], 10)))
    assert both[1, JAW] > 0.7 * first[1, JAW] and both[8, SPREAD] > 0.7 * last[8, SPREAD]
    assert both[1, JAW] - both[8, JAW] > 0.5 * (first[5, JAW] - last[5, JAW])


def test_what_is_far_away_does_not_count_and_what_comes_is_anticipated():
    still = chances(["AA"], 100)
    later = still.copy()
    later[60:] = chances(["UW"], 40)
    change = np.abs(blended(later, HZ) - blended(still, HZ))[:, PUCKER]
    assert change[:40].max() < 1e-9
    assert change[57] > 0.05
