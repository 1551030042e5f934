"""Call a function for every sample, in threads: OpenCV, Pillow and NumPy work beside each other."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from segtrain.data.source import Source, files_of
from segtrain.hardware import num_cores

Result = TypeVar("Result")


def each_sample(source: Source, function: Callable[[int], Result]) -> Iterator[Result]:
    """Yield function(0), function(1), ... for a source's samples, in order, a few calls ahead of the one that takes.

    A source that does not say its files is the user's own and may not be made for threads: there is one then.

    Args:
        source: whose samples are counted.
        function: of a sample's index.
    """
    count = len(source)
    threads = num_cores() if count and files_of(source, 0) is not None else 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for index in range(count):
                waiting.append(pool.submit(function, index))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error nothing more is read
