"""What speech believes of the lips holds on the baked head."""

import numpy as np
import pytest
import torch

from avatar.core import Region
from avatar.face.arkit import INDEX, NAMES
from avatar.face.rig import AnnyRig, PersonalRig
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


@pytest.mark.parametrize("labial", ["P", "B", "M"])
@pytest.mark.parametrize("vowel", ["AA", "OW", "IY", "AE"])
def test_lips_touch_on_the_rig_at_bilabials_between_open_vowels(head, labial, vowel):
    upper, lower, *_ = lips(head)
    phones = [Phone(vowel, 0.0, 0.15), Phone(labial, 0.15, 0.23), Phone(vowel, 0.23, 0.4)]
    times = np.arange(0.0, 0.4, 0.04)
    gates = (contact_gate(phones, parts, times) for parts in (CONTACTS, CLOSURES))
    expression = torch.from_numpy(close_contacts(articulate(phones, times), *gates) @ ARKIT_FROM_ARTICULATORS)
    still = torch.zeros(len(times), 3), torch.zeros(len(times), 2, 2)
    posed = head.vertices(expression.clamp(0, 1), *still)
    gap = posed[:, lower, 1] - posed[:, upper, 1]
    assert gap[4:6].min() < 0.0002
    assert gap.max() > 0.0025
