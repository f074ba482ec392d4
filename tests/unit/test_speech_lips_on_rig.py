"""What speech believes of the lips holds on the baked head."""

import numpy as np
import pytest
import torch

from avatar.core import Region
from avatar.face.arkit import INDEX, NAMES
from avatar.face.rig import AnnyRig, PersonalRig, Piece
from avatar.speech.articulation import articulate, close_contacts, contact_gate
from avatar.speech.phones import Phone
from avatar.speech.visemes import ARKIT_FROM_ARTICULATORS, CLOSURES, CONTACTS, LIP_GAP_MM, LIP_WIDTH_MM


@pytest.fixture(scope="module")
def head() -> PersonalRig:
    rig = AnnyRig.load()
    return rig.personal(torch.zeros(rig.identity_size))


def lips(head: PersonalRig) -> tuple[int, int, int, int]:
    """Vertices of the inner upper and lower lip in the middle, and of the right and left corner of the mouth."""
    index = torch.unique(head.faces[head.regions == int(Region.LIPS)])
    x, z = head.neutral[index, 0], head.neutral[index, 2]
    drop = head.actions[INDEX["jawOpen"]][index, 1]
    middle = (x.abs() < 0.001) & (z < z.min() + 0.007)
    upper, lower = index[middle & (drop < 0.01)], index[middle & (drop > 0.02)]
    apart = torch.cdist(head.neutral[upper], head.neutral[lower])
    u, v = divmod(int(apart.argmin()), len(lower))
    return int(upper[u]), int(lower[v]), int(index[x.argmin()]), int(index[x.argmax()])


def test_gap_and_width_of_each_coefficient_are_those_of_the_rig(head):
    upper, lower, right, left = lips(head)
    gap = 1000 * (head.actions[:, lower, 1] - head.actions[:, upper, 1]).numpy()
    width = 1000 * (head.actions[:, left, 0] - head.actions[:, right, 0]).numpy()
    used = [i for i, name in enumerate(NAMES) if LIP_GAP_MM[i] or ARKIT_FROM_ARTICULATORS[:, i].any()]
    np.testing.assert_allclose(gap[used], LIP_GAP_MM[used], atol=1.5)
    np.testing.assert_allclose(width[used], LIP_WIDTH_MM[used], atol=1.5)


def posed(head: PersonalRig, *symbols: str) -> torch.Tensor:
    """The surface every 20 ms while phones of 0.12 s are said, by rules alone."""
    phones = [Phone(symbol, 0.12 * i, 0.12 * (i + 1)) for i, symbol in enumerate(symbols)]
    times = np.arange(0.0, phones[-1].end, 0.02)
    bite, shut = (contact_gate(phones, parts, times) for parts in (CONTACTS, CLOSURES))
    expression = torch.from_numpy(close_contacts(articulate(phones, times), bite, shut) @ ARKIT_FROM_ARTICULATORS)
    return head.vertices(expression.clamp(0, 1), torch.zeros(len(times), 3), torch.zeros(len(times), 2, 2))


@pytest.mark.parametrize("labial", ["P", "B", "M"])
@pytest.mark.parametrize("vowel", ["AA", "OW", "IY", "AE"])
def test_lips_touch_on_the_rig_at_bilabials_between_open_vowels(head, labial, vowel):
    upper, lower, *_ = lips(head)
    phones = [Phone(vowel, 0.0, 0.15), Phone(labial, 0.15, 0.23), Phone(vowel, 0.23, 0.4)]
    times = np.arange(0.0, 0.4, 0.04)
    bite, shut = (contact_gate(phones, parts, times) for parts in (CONTACTS, CLOSURES))
    expression = torch.from_numpy(close_contacts(articulate(phones, times), bite, shut) @ ARKIT_FROM_ARTICULATORS)
    still = torch.zeros(len(times), 3), torch.zeros(len(times), 2, 2)
    posed = head.vertices(expression.clamp(0, 1), *still)
    gap = posed[:, lower, 1] - posed[:, upper, 1]
    assert gap[4:6].min() < 0.0002
    assert gap.max() > 0.0025


@pytest.mark.parametrize("labiodental", ["F", "V"])
@pytest.mark.parametrize("vowel", ["AA", "UW", "IY"])
def test_teeth_show_on_a_lower_lip_that_is_not_tucked_away_at_f_and_v(head, labiodental, vowel):
    upper, lower, *_ = lips(head)
    teeth = torch.unique(head.faces[AnnyRig.load().pieces == int(Piece.UPPER_TEETH)])
    teeth = teeth[head.neutral[teeth, 0].abs() < 0.005]
    lip = torch.unique(head.faces[head.regions == int(Region.LIPS)])
    lip = lip[(head.neutral[lip, 0].abs() < 0.003) & (head.actions[INDEX["jawOpen"]][lip, 1] > 0.02)]
    surface = 1000 * posed(head, vowel, labiodental, vowel)[9, :, 1]  # downwards
    gap, edge = float(surface[lower] - surface[upper]), float(surface[teeth].max())
    assert 0.5 < gap < 2.5
    assert edge - float(surface[upper]) > 0.3  # teeth are seen under the upper lip
    assert abs(float(surface[lip].min()) - edge) < 1.0  # and end on the lower one
    rest = 1000 * head.neutral[lip, 1]
    assert float(surface[lip].max() - surface[lip].min()) > 0.8 * float(rest.max() - rest.min())


@pytest.mark.parametrize(
    ("symbols", "part"), [(("W", "UW", "W"), 0.88), (("T", "UW", "T"), 0.92), (("R", "OW", "L"), 0.95)]
)
def test_round_vowels_are_narrow_and_come_forward(head, symbols, part):
    upper, lower, right, left = lips(head)
    surface = posed(head, *symbols)
    width = (surface[:, left, 0] - surface[:, right, 0]).min()
    assert width < part * (head.neutral[left, 0] - head.neutral[right, 0])
    forward = head.neutral[[upper, lower], 2] - surface[:, [upper, lower], 2]
    assert forward[5:13].max(0).values.min() > 0.001


def test_i_is_no_wider_than_e_on_the_rig(head):
    *_, right, left = lips(head)
    i, e = (
        (surface[:, left, 0] - surface[:, right, 0])[9] for surface in (posed(head, *3 * [v]) for v in ("IY", "AE"))
    )
    assert abs(i - e) < 0.001
