"""Processes of liif without the time of their start: each is forked from one that has loaded PyTorch and the other libraries.
`start` runs the command, `python` some code.

They are real processes: with their own streams, signals, environment, folder and exit code. What is tested of the start itself
(what is loaded, variables of the interpreter, closed streams) needs a new interpreter instead.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch",
    "torch._dynamo",  # loaded by an optimiser's first step
    "torch.optim.swa_utils",
    "torch.nn.parallel",
    "safetensors.torch",
    "pydantic",
    "PIL.Image",
    "pyvips",
)
MODULES = (
    "cli.app",
    "cli.progress",
    "upscaling.batch",
    "upscaling.upscaler",
    "training.train",
    "training.run_folder",
    "evaluation.evaluate",
    "evaluation.artifacts",
)
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parent has gone become children of this one
HERE = Path(__file__).parent


class Parent:
    """The process that others are forked from; it is started when the first is wanted."""

    def __init__(self) -> None:
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        self.socket, theirs = socket.socketpair()
        more = {
            "OMP_NUM_THREADS": "1",
            "VIPS_WARNING": "0",
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
        }
        with theirs:
            call = [sys.executable, "-m", "forked", str(theirs.fileno())]
            self.process = subprocess.Popen(call, env=os.environ | more, pass_fds=[theirs.fileno()])
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        self.socket.close()
        self.process.wait()

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """The number of a new process with these streams, which is a child of this process."""
        data = json.dumps(request).encode()
        socket.send_fds(self.socket, [len(data).to_bytes(4)], streams)
        self.socket.sendall(data)
        if len(answer := self.socket.recv(8, socket.MSG_WAITALL)) < 8:
            raise OSError("the process that others are forked from has gone")
        return int.from_bytes(answer)


parent: Parent | None = None


class Forked(subprocess.Popen[Any]):
    """`Popen` of `liif` with some arguments, forked. limits: of the system, `resource.RLIMIT_*` -> value. code: what is run
    in place of `liif`."""

    def __init__(
        self, arguments: list[str], limits: dict[int, int] | None = None, code: str | None = None, **options: Any
    ) -> None:
        self.limits, self.code = limits or {}, code
        super().__init__(arguments, **options)

    def _execute_child(self, args: list[str], *rest: Any) -> None:
        global parent
        parent = parent or Parent()
        cwd, env, pipes = rest[4], rest[5], rest[9:15]
        request = {"arguments": args, "folder": os.fspath(cwd or Path.cwd()), "environment": dict(env or os.environ)}
        request["ignored"] = [each for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN]
        request |= {"limits": list(self.limits.items()), "code": self.code}
        streams = [given if given != -1 else own for own, given in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = parent.fork(request, streams)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def limit(limits: Iterable[tuple[int, int]]) -> None:
    """Give this process limits of the system."""
    import resource  # Windows has none

    for what, value in limits:
        resource.setrlimit(what, (value, value))


def start(*arguments: Any, limits: dict[int, int] | None = None, **options: Any) -> subprocess.Popen[Any]:
    """`python -m liif_cli ARGUMENTS`, with limits of the system (`resource.RLIMIT_*` -> value) and options of `Popen`."""
    words = list(map(str, arguments))
    if sys.platform == "linux":
        return Forked(words, limits, **options)
    prepare = partial(limit, list(limits.items())) if limits else None
    return subprocess.Popen([sys.executable, "-m", "liif_cli", *words], preexec_fn=prepare, **options)


def python(code: str, **options: Any) -> subprocess.Popen[Any]:
    """`python -c CODE`, with options of `Popen`."""
    if sys.platform == "linux":
        return Forked([], code=code, **options)
    return subprocess.Popen([sys.executable, "-c", code], **options)


def main(own: socket.socket) -> None:
    """Fork a process for each request until the socket is closed. Returns in these processes, too, as what they are to be."""
    while header := socket.recv_fds(own, 4, 3):
        data, streams, _, _ = header
        if not data:
            return
        request = json.loads(own.recv(int.from_bytes(data), socket.MSG_WAITALL))
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid:  # the process becomes a child of the one that asked as soon as this one has gone
                os.write(writer, pid.to_bytes(8))
                os._exit(0)
            for each in (reader, writer, own.detach()):
                os.close(each)
            become(request, streams)
            return
        os.waitpid(between, 0)
        own.sendall(os.read(reader, 8))
        for each in (reader, writer, *streams):
            os.close(each)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Run liif in this process, as a new interpreter would."""
    for own, given in enumerate(streams):
        os.dup2(given, own)
        os.close(given)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    for each in request["ignored"]:
        signal.signal(each, signal.SIG_IGN)
    limit(request["limits"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["liif", *request["arguments"]]
    if request["code"] is not None:
        exec(request["code"], {"__name__": "__main__"})
        return
    runpy.run_module("liif_cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in (*LIBRARIES, *(f"liif_cli.{each}" for each in MODULES)):
        import_module(name)
    if early := {"huggingface_hub", "uvicorn"} & set(sys.modules):
        raise SystemExit(f"{early} read variables when they are loaded, and must not be loaded here")
    gc.freeze()  # a collection in a fork would copy the memory of all these libraries
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        main(listening)
