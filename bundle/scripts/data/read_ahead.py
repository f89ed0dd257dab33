"""A DataLoader that prepares the next batches in a thread while the network works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from monai.data import DataLoader

_END = object()


class ReadAheadLoader(DataLoader):
    """DataLoader whose batches are read, decoded and resized ahead in one thread.

    A thread rather than processes: decoders release the interpreter lock, the frames of a video come in order from one
    open file, and nothing is copied between processes. An exception in the thread is raised where the batch was
    expected (MONAI's ThreadDataLoader ends the epoch there without a word).

    Args:
        batches_ahead: how many batches wait ready at most; 0 = read when asked for.
        others: as DataLoader.
    """

    def __init__(self, dataset: Any, batches_ahead: int = 2, **kwargs: Any) -> None:
        if batches_ahead < 0:
            raise ValueError(f"batches_ahead is {batches_ahead}; expected 0 or more")
        super().__init__(dataset, **kwargs)
        self.batches_ahead = int(batches_ahead)

    def __iter__(self) -> Iterator[Any]:
        if self.batches_ahead == 0:
            yield from super().__iter__()
            return
        batches = super().__iter__()
        ready: queue.Queue[Any] = queue.Queue(self.batches_ahead)
        stop = threading.Event()

        def put(value: Any) -> bool:
            while not stop.is_set():
                try:
                    ready.put(value, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def read() -> None:
            try:
                for batch in batches:
                    if not put((batch, None)):
                        return
            except BaseException as error:  # noqa: BLE001 - raised again by the reader of the queue
                put((None, error))
                return
            put((_END, None))

        thread = threading.Thread(target=read, name="read ahead", daemon=True)
        thread.start()
        try:
            while True:
                batch, error = ready.get()
                if error is not None:
                    raise error
                if batch is _END:
                    return
                yield batch
        finally:
            stop.set()
            thread.join(timeout=10)
