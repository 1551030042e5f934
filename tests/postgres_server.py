"""A real PostgreSQL server of a test's own, from Debian's package: on a free port, for as long as the test needs it."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from slurm_cluster import free_ports

USER = "researcher"
PASSWORD = "p@ss/w:o rd?#100%&'="  # nothing in it may pass through an address, Hydra's grammar or an INI file unquoted


class Server:
    """A PostgreSQL server that asks for a password.

    Args:
        programs: the folder of the server's programs.
        folder: its files, owned by the user that it runs as.
        port: on 127.0.0.1.
    """

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        self.programs = programs
        self.folder = folder
        self.port = port

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """Return the address of a database, as `storage` takes it."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its address."""
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, statement: str) -> str:
        """Run a statement and return what it prints."""
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        command = [self.programs / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres"]
        options = ["-At", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (statement, done.stderr)
        return done.stdout.strip()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # no fsync: what is tested here survives the server's end, not the machine's
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._control("start", "-l", str(self.folder / "server.log"), "-o", options)

    def stop(self) -> None:
        """End it and all of its connections."""
        self._control("stop", "-m", "fast")

    def _control(self, action: str, *options: str) -> None:
        command = [self.programs / "pg_ctl", "-D", self.folder / "data", "-w", "-t", "60", action, *options]
        with (self.folder / "control.log").open("w+") as log:  # a pipe would be kept open by the server
            done = subprocess.run(command, cwd=self.folder, stdout=log, stderr=log, timeout=90, **as_user())
            log.seek(0)
            assert done.returncode == 0, log.read()


@contextmanager
def running_postgres() -> Iterator[Server]:
    """Start a server and stop it at the end; skip where its package is missing.

    Its files are in a folder of their own: root's temporary folders are closed to the user that it runs as.
    """
    if (programs := find_programs()) is None:
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(password, "postgres", "postgres")
        options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--no-sync", "-D", "data"]
        subprocess.run(
            [programs / "initdb", *options, "--locale=C.UTF-8"],
            cwd=folder,
            capture_output=True,
            check=True,
            **as_user(),
        )
        (port,) = free_ports(1)
        server = Server(programs, folder, port)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def find_programs() -> Path | None:
    """Return the folder of the newest server's programs; Debian has them outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    candidates = [*([Path(on_path)] if on_path else []), *found]
    return candidates[-1].parent if candidates else None


def as_user() -> dict[str, Any]:
    """Return the options that run a process as a user who may own a server: root may not."""
    if os.getuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
