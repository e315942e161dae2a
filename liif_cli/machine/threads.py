"""Runs jobs on the CPU in threads that each compute alone.

A product of a few thousand rows is too short for a pool of threads: synchronising takes longer, and on a busy machine every
product waits for the slowest thread. Independent jobs wait for nothing.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, Lock

import torch

from liif_cli.machine.memory import keep_freed

_starting = Lock()  # of a pool: two callers want one


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one thread each. They stay: starting one takes milliseconds."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="liif")
    before = _new_threads_count(pool)
    ready = Barrier(count + 1)

    def start() -> None:
        torch.set_num_threads(1)  # for this thread, and until `before` is back for those that are started meanwhile
        ready.wait()

    for _ in range(count):
        pool.submit(start)
    ready.wait()
    with ThreadPoolExecutor(1) as other:  # in a thread of its own, as the caller's own number may be another
        other.submit(torch.set_num_threads, before).result()
    return pool


def _new_threads_count(pool: ThreadPoolExecutor) -> int:
    """How many threads torch uses in a thread that it has not seen before."""
    return pool.submit(torch.get_num_threads).result()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has no threads of its parent


def run(jobs: Sequence[Callable[[], None]]) -> None:
    """Call all jobs in as many threads as torch uses; inside a job, torch uses one thread. Raises the first job's exception.

    Several threads may call it at once: they share the pool, and torch's numbers of threads stay as they are.
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
