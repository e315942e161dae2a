"""Runs libvips' savers so that they can be interrupted, and replaces the first bytes of their output.

libvips encodes the pixels without metadata, and the formats add the metadata, because libvips rewrites EXIF, cannot store IPTC
in PNG and leaves EXIF out of TIFF. PNG and JPEG are streamed to disk through `_Splice`, so the file is never held in memory.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def interruptibly(image: Any, work: Callable[[], object], cancelled: threading.Event) -> None:
    """Run a libvips saver of `image` in a separate thread, so that signals such as Ctrl-C reach the main thread immediately.

    The saver is stopped if an exception arrives, before it is raised again, and if `cancelled` is set.
    """
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
    """Run a libvips saver that writes to `path`, with the first bytes of the file replaced.

    own: returns the replacement for the bytes written so far, or None if it needs more of them. save: runs the saver with a
    pyvips target.
    """
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
    """Receives an encoder's bytes and writes them to a file.

    An exception in here (such as a full disk, or Ctrl-C) cannot pass through C: it makes libvips fail and is kept in `caught`.
    """

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
