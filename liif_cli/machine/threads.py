"""Runs independent jobs on the CPU in threads, each of which computes on one core.

Splitting a matrix product of a few thousand rows over threads does not pay: synchronising them takes longer, and on a busy
machine every product waits for the slowest thread. Independent jobs need no synchronisation.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, Lock

import torch

from liif_cli.machine.memory import keep_freed

_starting = Lock()  # so that two callers do not start two pools


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """A pool of `count` threads, in each of which torch uses one thread. It is kept, because starting it takes milliseconds."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="liif")
    before = _new_threads_count(pool)
    ready = Barrier(count + 1)

    def start() -> None:
        torch.set_num_threads(1)  # for this thread, and, until `before` is restored, for threads that start meanwhile
        ready.wait()

    for _ in range(count):
        pool.submit(start)
    ready.wait()
    with ThreadPoolExecutor(1) as other:  # in a separate thread, because the caller may use another number
        other.submit(torch.set_num_threads, before).result()
    return pool


def _new_threads_count(pool: ThreadPoolExecutor) -> int:
    """The number of threads that torch uses in a new thread."""
    return pool.submit(torch.get_num_threads).result()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has no threads of its parent


def run(jobs: Sequence[Callable[[], None]]) -> None:
    """Call all jobs in as many threads as torch uses; inside a job, torch uses one thread. Raises a failed job's exception.

    Several threads may call it at once; they share the pool. It does not change torch's number of threads for its callers.
    """
    keep_freed()
    count = torch.get_num_threads()
    if count == 1 or len(jobs) == 1:
        for job in jobs:
            job()
        return
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def alone(job: Callable[[], None]) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):  # both are per thread
            job()

    with _starting:
        pool = _pool(count)
    futures = [pool.submit(alone, job) for job in jobs]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
