"""Makes files in worker threads: each once, even if several clients wait for it, and not at all if none waits any more."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from liif_cli.viewing.iiif import Refused


@dataclass
class Job:
    """A file that is being made, or is to be made, and the number of clients that wait for it."""

    future: "Future[bytes]"
    waiting: int = 0


class RenderQueue:
    """Makes files by key, `workers` at a time, and caches the most recently used, up to `kept` bytes.

    At most `queue` files are waiting or being made; further requests are refused. For use in a single event loop. made: the
    number of files that were started.
    """

    def __init__(self, workers: int, queue: int, kept: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="liif-view")
        self._queue, self._kept, self._bytes = queue, kept, 0
        self._jobs: dict[str, Job] = {}
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self.made = 0

    async def get(self, key: str, make: Callable[[], bytes], gone: Callable[[], Awaitable[None]]) -> bytes | None:
        """The file with this key; None if the client disconnected first.

        make: makes the file, in a worker thread. gone: returns when the client has disconnected. Raises `Refused` (503) if the
        queue is full, and the exceptions of `make`.
        """
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        job = self._job(key, make)
        job.waiting += 1
        left = asyncio.ensure_future(gone())
        result = asyncio.wrap_future(job.future)
        both: set[asyncio.Future[Any]] = {result, left}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return result.result() if result.done() else None
        finally:
            left.cancel()
            job.waiting -= 1
            if not job.waiting and not job.future.done():
                self._drop(key, job)
            elif result.done() and not result.cancelled() and result.exception() is None:
                self._keep(key, result.result())

    def close(self) -> None:
        """Start no more files, and discard those that are waiting."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _job(self, key: str, make: Callable[[], bytes]) -> Job:
        if key in self._jobs:
            return self._jobs[key]
        if len(self._jobs) >= self._queue:
            raise Refused(503, "the server is busy; try again")
        self.made += 1
        job = self._jobs[key] = Job(self._pool.submit(make))
        loop = asyncio.get_running_loop()
        job.future.add_done_callback(lambda _: _soon(loop, lambda: self._forget(key, job)))
        return job

    def _drop(self, key: str, job: Job) -> None:
        """Discard a job that nobody waits for, unless it has started."""
        if job.future.cancel():
            self._forget(key, job)

    def _forget(self, key: str, job: Job) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]

    def _keep(self, key: str, file: bytes) -> None:
        if key in self._files or len(file) > self._kept:
            return
        self._files[key] = file
        self._bytes += len(file)
        while self._bytes > self._kept:
            self._bytes -= len(self._files.popitem(last=False)[1])


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
