"""The embedded PostgreSQL, for real: made, used, killed, found again; and the lock of the data folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from infra.data_folder import DataFolderInUse, DataFolderLock
from infra.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, _Identity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder with a space and a quote in its name, below one of mode 0700; pytest's are too long for a socket."""
    with TemporaryDirectory(prefix="lizenzserver-test-") as private:
        yield Path(private) / "it's data"


@pytest.fixture
def postgres(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir)
    yield server
    server.stop()


def pid_of(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def query(server: EmbeddedPostgres, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        cursor = connection.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def test_a_new_cluster_is_private_and_configured(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    assert not postgres.running()
    postgres.start()
    assert postgres.running()
    names = ("server_version_num", "server_encoding", "data_checksums", "jit", "TimeZone", "fsync", "listen_addresses")
    shown = [query(postgres, f"SHOW {name}")[0][0] for name in (*names, "unix_socket_permissions")]
    assert str(shown[0]).startswith("18")
    assert shown[1:] == ["UTF8", "on", "off", "UTC", "on", "", "0700"]
    for folder in ("postgres", "postgres-socket"):
        found = (data_dir / folder).stat()
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == os.geteuid()
    assert os.getsid(pid_of(data_dir)) != os.getsid(0)


def test_what_is_stored_survives_a_stop_and_stopping_twice_is_fine(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    query(postgres, "CREATE TABLE kept AS SELECT 1 AS one")
    postgres.stop()
    assert not postgres.running()
    postgres.stop()
    postgres.start()
    assert query(postgres, "SELECT one FROM kept") == [(1,)]


def test_stop_ends_open_sessions(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("SELECT 1")
        postgres.stop()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_server_that_runs_is_used_again(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    starts = "pathlib.Path(sys.argv[1])).start(); os.kill(os.getpid(), 9)"
    script = f"import os, pathlib, sys; from infra.embedded_postgres import EmbeddedPostgres as P; P({starts}"
    killed = subprocess.run([sys.executable, "-c", script, str(data_dir)], check=False, env={"PYTHONPATH": str(ROOT)})
    assert killed.returncode == -signal.SIGKILL
    pid = pid_of(data_dir)
    postgres.start()
    assert pid_of(data_dir) == pid
    assert query(postgres, "SELECT 1") == [(1,)]


def test_a_killed_server_is_started_again_with_its_data(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    postgres.start()
    query(postgres, "CREATE TABLE kept AS SELECT 1 AS one")
    os.kill(pid_of(data_dir), signal.SIGKILL)
    while postgres.running():
        pass
    postgres.start()
    assert query(postgres, "SELECT one FROM kept") == [(1,)]


def test_a_recorded_pid_that_is_somebody_elses_by_now_is_no_server(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    postgres.start()
    pid_file = data_dir / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.stop()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    (data_dir / "postgres-socket").mkdir(mode=0o700)
    (data_dir / "postgres-socket" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    assert not postgres.running()
    postgres.start()
    assert query(postgres, "SELECT 1") == [(1,)]


def test_half_made_clusters_are_made_again(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    (data_dir / "postgres.draft" / "base").mkdir(parents=True)
    (data_dir / "postgres").mkdir()
    postgres.start()
    assert not (data_dir / "postgres.draft").exists()


def test_strange_folders_are_refused(data_dir: Path) -> None:
    (data_dir / "postgres" / "mine").mkdir(parents=True)
    with pytest.raises(EmbeddedPostgresError, match="no PostgreSQL cluster"):
        EmbeddedPostgres(data_dir).start()
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 17, this is 18"):
        EmbeddedPostgres(data_dir).start()
    with pytest.raises(EmbeddedPostgresError, match="must hold none of"):
        EmbeddedPostgres(data_dir / "$(id)").start()


def test_a_socket_folder_of_somebody_else_is_not_used(data_dir: Path) -> None:
    (data_dir / "postgres-socket").mkdir(parents=True)
    server = EmbeddedPostgres(data_dir)
    server._make_socket_folder(_Identity())
    with pytest.raises(EmbeddedPostgresError, match="not a folder of ours"):
        server._make_socket_folder(_Identity(owner=(4711, 4711)))
    (data_dir / "postgres-socket").rmdir()
    (data_dir / "postgres-socket").symlink_to(data_dir)
    with pytest.raises(EmbeddedPostgresError, match="not a folder of ours"):
        server._make_socket_folder(_Identity())


def test_a_failed_start_shows_the_servers_own_words(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    postgres.start()
    postgres.stop()
    configuration = data_dir / "postgres" / "postgresql.auto.conf"
    configuration.write_text("max_connections = many\n")
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "max_connections": "many"'):
        postgres.start()


@pytest.fixture
def short_folder() -> Iterator[str]:
    with TemporaryDirectory(prefix="lz-") as folder:
        yield folder


def test_a_long_path_has_its_socket_in_the_temporary_folder(
    tmp_path: Path, short_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not below tmp_path, which is so long itself that a socket's path may not fit.
    temporary = Path(short_folder)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    server = EmbeddedPostgres(tmp_path / ("x" * 100))
    server.start()
    try:
        (folder,) = temporary.iterdir()
        assert folder.name.startswith("lizenzserver-")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert query(server, "SELECT 1") == [(1,)]
    finally:
        server.stop()
    assert list(temporary.iterdir()) == []
    folder.symlink_to(tmp_path)
    with pytest.raises(EmbeddedPostgresError, match="not a folder of ours"):
        server.start()


def test_a_start_and_another_at_once_make_one_server(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    context = multiprocessing.get_context("spawn")
    starters = [context.Process(target=EmbeddedPostgres(data_dir).start) for _ in range(3)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert [starter.exitcode for starter in starters] == [0, 0, 0]
    assert query(postgres, "SELECT 1") == [(1,)]


def hold(data_dir: Path, ready: socket.socket) -> None:
    DataFolderLock(data_dir).acquire()
    ready.send(b".")
    ready.recv(1)


def test_a_second_serve_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path / "var", theirs))
    with ours, theirs:
        holder.start()
        assert ours.recv(1) == b"."
        with pytest.raises(DataFolderInUse, match=rf"^.*\(pid {holder.pid}\)$"):
            DataFolderLock(tmp_path / "var").acquire()
        holder.kill()
        holder.join()
    with DataFolderLock(tmp_path / "var"), pytest.raises(DataFolderInUse, match=f"pid {os.getpid()}"):
        DataFolderLock(tmp_path / "var").acquire()
    with DataFolderLock(tmp_path / "var"):
        pass
