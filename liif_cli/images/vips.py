"""libvips' savers: run so that they can be stopped, their first bytes exchanged on the way.

libvips encodes bare pixels; the formats put the metadata around them, since libvips re-writes EXIF, has no place for IPTC
in PNG and leaves EXIF out of TIFF. PNG and JPEG pass through `_Splice` on their way to the disk, so nothing is held.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def interruptibly(image: Any, work: Callable[[], object], cancelled: threading.Event) -> None:
    """Run a libvips saver on `image` in a thread of its own, so that Ctrl-C and other signals reach the main thread at
    once; the saver is stopped before they are passed on, and when `cancelled` is set."""
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            while not wait([future], timeout=0.1).done:
                if cancelled.is_set():
                    image.set_kill(True)
        except BaseException:
            image.set_kill(True)
            raise
        future.result()


def spliced(
    image: Any,
    path: Path,
    own: Callable[[bytes], bytes | None],
    save: Callable[[Any], object],
    cancelled: threading.Event,
) -> None:
    """Run a libvips saver into `path`, with its first bytes exchanged by `own` (None: more are needed)."""
    import pyvips

    with path.open("wb") as file:
        splice = _Splice(file, own)
        target = pyvips.TargetCustom()
        target.on_write(splice.write)
        try:
            interruptibly(image, lambda: save(target), cancelled)
        except pyvips.Error:
            if splice.caught is None:
                raise
        if splice.caught is not None:
            raise splice.caught


class _Splice:
    """Takes an encoder's bytes; an exception in here (a full disk, Ctrl-C) makes libvips fail and waits in `caught`,
    since none passes through C."""

    def __init__(self, file: BinaryIO, own: Callable[[bytes], bytes | None]) -> None:
        self.file, self.own = file, own
        self.first: bytes | None = b""
        self.caught: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._pass_on(bytes(data))
        except BaseException as error:
            self.caught = error
            return -1
        return len(data)

    def _pass_on(self, data: bytes) -> None:
        if self.first is None:
            self.file.write(data)
            return
        self.first += data
        exchanged = self.own(self.first)
        if exchanged is not None:
            self.file.write(exchanged)
            self.first = None
