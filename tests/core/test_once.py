"""A property that is found once."""

from queue import SimpleQueue
from threading import Event, Thread

from mapper_core.once import once


class Asked:
    def __init__(self, find):
        self._find = find

    @once
    def answer(self):
        """What was found."""
        return self._find()


def test_it_is_found_once_by_each_object():
    """Nothing is found before somebody asks, nor twice."""
    answers = iter([1, 2])
    first, second = (Asked(lambda: next(answers)) for _ in range(2))

    assert [1, 1, 2, 2, 1] == [asked.answer for asked in (first, first, second, second, first)]


def test_one_object_does_not_wait_for_another():
    """They may be of different databases, of which one is slow."""
    asking, go_on = Event(), Event()
    slow: SimpleQueue[object] = SimpleQueue()

    def wait():
        asking.set()
        return go_on.wait(10)

    waiting = Thread(target=lambda: slow.put(Asked(wait).answer))
    waiting.start()
    assert asking.wait(10)
    quick = Thread(target=lambda: slow.put(Asked(lambda: "quick").answer))
    quick.start()
    quick.join(5)
    go_on.set()
    waiting.join(10)

    assert ["quick", True] == [slow.get(), slow.get()]
