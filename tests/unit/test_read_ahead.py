"""Pictures are read in order, a few ahead, on one other thread, and worked on side by side on others."""

import threading

import pytest

from avatar.face.ahead import read_ahead, side_by_side


def test_all_come_in_order_with_their_index():
    assert list(read_ahead(lambda i: i * i, [3, 1, 2, 5, 8, 1])) == [(i, i * i) for i in (3, 1, 2, 5, 8, 1)]


def test_nothing_to_read_is_nothing():
    assert list(read_ahead(lambda i: i, [])) == []


def test_the_next_picture_is_read_while_this_one_is_worked_on():
    started = [threading.Event() for _ in range(20)]

    def read(index: int) -> int:
        started[index].set()
        return index

    for index, _ in read_ahead(read, range(20)):
        if index < 16:
            assert started[index + 2].wait(5)


def test_no_more_than_a_few_are_read_before_they_are_asked_for():
    read: list[int] = []
    pictures = read_ahead(read.append, range(100))
    next(pictures)
    pictures.close()
    assert len(read) <= 5


def test_an_error_comes_out_at_its_picture():
    def read(index: int) -> int:
        if index == 2:
            raise OSError("damaged")
        return index

    seen = []
    with pytest.raises(OSError, match="damaged"):
        for index, _ in read_ahead(read, range(9)):
            seen.append(index)
    assert seen == [0, 1]


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    pictures = read_ahead(lambda i: i, range(50))
    next(pictures)
    pictures.close()
    assert threading.active_count() == before


def test_work_goes_side_by_side_and_comes_in_order():
    both = threading.Barrier(2)

    def work(item: int) -> int:
        both.wait(5)
        return item

    assert list(side_by_side(work, [3, 1, 2, 5])) == [3, 1, 2, 5]


def test_of_what_is_worked_on_only_a_few_are_taken_ahead():
    taken: list[int] = []
    for done, _ in enumerate(side_by_side(lambda item: item, (taken.append(i) for i in range(100)))):
        assert len(taken) <= done + 5
