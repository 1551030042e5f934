"""`segtrain` in a process of its own that has not to import torch and the like: it is forked from one that has.

That is what most of a short command's time goes to. Forks have the hashes of texts in common, so where something is to
be the same twice, one of the two is started anew. The server takes one request a connection, and forks for each; it
imports nothing of segtrain, and ends with the process that started it.
"""

import atexit
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from socketserver import ForkingMixIn, StreamRequestHandler, UnixStreamServer
from typing import Any, NoReturn

import numpy

IMPORTED = ("albumentations", "pytorch_lightning", "torchmetrics", "torchvision", "torch.utils.tensorboard")
START = 120.0  # seconds for the server's own imports
STARTER = os.getppid()


def run_warm(
    arguments: list[str], *, cwd: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run `segtrain` as `subprocess.run` would, with its output captured.

    Raises:
        subprocess.TimeoutExpired: after it was killed.
    """
    text: Any = {"mode": "w+", "encoding": "utf-8"}
    with (
        tempfile.TemporaryFile(**text) as out,
        tempfile.TemporaryFile(**text) as err,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.settimeout(START)
        connection.connect(_address())
        request = {"arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        socket.send_fds(connection, [b"2"], [out.fileno(), err.fileno()])
        connection.sendall(json.dumps(request).encode() + b"\n")
        answers = connection.makefile("r")
        pid = int(answers.readline())
        connection.settimeout(timeout)
        try:
            status = answers.readline()
        except TimeoutError:
            os.kill(pid, 9)
            raise subprocess.TimeoutExpired(arguments, timeout) from None
        if not status:
            raise RuntimeError(f"the process that waits for {arguments} has died")
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(["segtrain", *arguments], int(status), out.read(), err.read())


_lock = threading.Lock()
_running: list[tuple[str, subprocess.Popen[bytes]]] = []  # the server and where it listens, once it was needed


def _address() -> str:
    """Return where the server listens, started if none is running."""
    with _lock:
        if not _running or _running[0][1].poll() is not None:
            _running[:] = [_start()]
        return _running[0][0]


def _start() -> tuple[str, subprocess.Popen[bytes]]:
    address = f"{tempfile.mkdtemp(prefix='segtrain-warm-')}/socket"  # the server removes it
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # which torch reads when it is imported
    server = subprocess.Popen([sys.executable, __file__, address], env=environment, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + START
    while not Path(address).exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server of warm processes did not start (status {server.poll()})")
        time.sleep(0.05)
    return address, server


class _Server(ForkingMixIn, UnixStreamServer):
    max_children = 100

    def service_actions(self) -> None:
        """End with the process that started it."""
        super().service_actions()
        if os.getppid() != STARTER:
            shutil.rmtree(Path(str(self.server_address)).parent, ignore_errors=True)
            os._exit(0)


class _Handler(StreamRequestHandler):
    """In a process of its own: forks the command, and says its number and how it ended."""

    def handle(self) -> None:
        _, outputs, _, _ = socket.recv_fds(self.connection, 1, 2)
        request = json.loads(self.rfile.readline())
        if (pid := os.fork()) == 0:
            for end in (self.rfile, self.wfile, self.connection, self.server.socket):
                end.close()  # its children must not hold them
            _become(request, outputs)
        for output in outputs:
            os.close(output)
        self.wfile.write(b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        self.wfile.write(b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(request: dict[str, object], outputs: list[int]) -> NoReturn:
    """Run the command in this process, and end it as the interpreter would."""
    for output, number in zip(outputs, (1, 2), strict=True):
        os.dup2(output, number)
        os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    sys.argv = ["segtrain", *request["arguments"]]  # type: ignore[misc]
    sys.path[0] = os.getcwd()  # as with -m
    numpy.random.seed()  # all forks would draw the same
    code: object = 0
    try:
        runpy.run_module("segtrain", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0) & 0xFF)


def _serve(address: str) -> None:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    for name in IMPORTED:
        __import__(name)
    with _Server(f"{address}.new", _Handler) as server:
        os.rename(f"{address}.new", address)
        server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
