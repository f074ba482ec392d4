"""The number of threads follows the clock."""

import pytest
import torch

from avatar.train.threads import ThreadTuner


@pytest.fixture(autouse=True)
def same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def chosen(seconds: dict[int, float], steps: int, most: int = 2) -> list[int]:
    tuner, used = ThreadTuner(most), []
    for _ in range(steps):
        tuner.before()
        used.append(torch.get_num_threads())
        tuner.after(seconds[used[-1]])
    return used


def test_one_thread_is_taken_where_two_wait_for_each_other():
    used = chosen({1: 0.1, 2: 0.9}, 100)
    assert used[:20] == [2] * 20 and used[44:] == [1] * 56


def test_two_threads_are_kept_where_they_pay_and_tried_again_later():
    used = chosen({1: 0.1, 2: 0.06}, 460)
    assert used[44:420] == [2] * 376 and 1 in used[420:444]


def test_a_single_thread_is_never_exceeded():
    assert set(chosen({1: 0.1}, 60, most=1)) == {1}
