from avatar.face.arkit import INDEX, MIRROR, NAMES


def test_there_are_52_different_names_indexed_in_order():
    assert len(NAMES) == 52
    assert [INDEX[name] for name in NAMES] == list(range(52))


def test_mirroring_twice_is_nothing_and_swaps_left_with_right():
    assert [MIRROR[MIRROR[i]] for i in range(52)] == list(range(52))
    assert NAMES[MIRROR[INDEX["mouthSmileLeft"]]] == "mouthSmileRight"
    assert MIRROR[INDEX["jawOpen"]] == INDEX["jawOpen"]
    assert sum(i != m for i, m in enumerate(MIRROR)) == 40
