"""Work on the CPU in threads that each compute alone.

A product of a few thousand rows is over before a pool of threads has met again, and on a busy machine the slowest of them is
waited for after each one. Bands of rows have nothing to wait for.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import torch

KEPT = 31 * 2**20  # bytes; glibc learns from blocks of less than 32 MiB only


@cache
def keep_memory() -> None:
    """Have glibc keep what is freed, instead of handing it back to the system and fetching it anew, zeroed, for each layer.

    It learns from blocks that are freed: those up to the largest are kept from then on, and twice as much is held back at most.
    The block is never touched, so it costs no memory; elsewhere this does nothing. In fp32 it saves a fifth of the time.
    """
    torch.empty(KEPT, dtype=torch.uint8)


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that stay: to begin one, with a limit of its own for torch, takes milliseconds."""
    return ThreadPoolExecutor(count, thread_name_prefix="liif")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def run(jobs: Sequence[Callable[[], None]]) -> None:
    """Call all jobs, in as many threads as torch uses, none of which torch divides further; raises what the first one raised.

    The number of torch's threads is put back afterwards. While it runs, other threads that first use torch get one as well.
    """
    keep_memory()
    count = torch.get_num_threads()
    if count == 1 or len(jobs) == 1:
        for job in jobs:
            job()
        return
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def alone(job: Callable[[], None]) -> None:
        if torch.get_num_threads() > 1:
            torch.set_num_threads(1)  # of this thread, and of those that are to come
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):  # both are each thread's own
            job()

    futures = [_pool(count).submit(alone, job) for job in jobs]
    try:
        for future in futures:
            future.result()
    finally:
        for future in futures:
            future.cancel()
        wait(futures)
        torch.set_num_threads(count)
