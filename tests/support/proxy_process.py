"""Proxies in a process of their own: `python -m tests.support.proxy_process NAME LISTEN TARGET [NAME LISTEN TARGET …]`.

An address is `PORT` on this machine, or the path of a Unix socket. A line on stdin says what shall happen, `done` on
stdout that it has:

    cut NAME    end all connections
    hole NAME   from now on drop what comes, either way, and take new connections that lead nowhere
    hold NAME   keep what comes, either way, and take no new connection
    open NAME   end what was in a hole, hand on what was held, and work again
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import StreamReader, StreamWriter
from contextlib import suppress

import uvloop

CHUNK = 1 << 18


class Proxy:
    """Forwards connections between two addresses."""

    def __init__(self, listen: str, target: str) -> None:
        self._listen = listen
        self._target = target
        self._writers: set[StreamWriter] = set()
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self._is_hole = False
        self._were_in_hole: set[StreamWriter] = set()

    async def start(self) -> None:
        if self._listen.isdecimal():
            self._server = await asyncio.start_server(self._take, "127.0.0.1", int(self._listen))
        else:
            self._server = await asyncio.start_unix_server(self._take, self._listen)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def hole(self) -> None:
        self._is_hole = True
        self._were_in_hole |= self._writers

    def hold(self) -> None:
        self._goes_on.clear()

    def open(self) -> None:
        self._is_hole = False
        self._goes_on.set()
        for writer in self._were_in_hole:
            writer.transport.abort()
        self._were_in_hole.clear()

    async def _take(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._writers.add(writer)
        other: StreamWriter | None = None
        try:
            await self._goes_on.wait()
            if self._is_hole:
                self._were_in_hole.add(writer)
                await reader.read()
                return
            answers, other = await self._connect()
            self._writers.add(other)
            await asyncio.gather(self._forward(reader, other), self._forward(answers, writer))
        except OSError:
            pass
        finally:
            for one in (writer, other):
                if one is not None:
                    self._writers.discard(one)
                    self._were_in_hole.discard(one)
                    one.transport.abort()

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        if self._target.isdecimal():
            return await asyncio.open_connection("127.0.0.1", int(self._target))
        return await asyncio.open_unix_connection(self._target)

    async def _forward(self, source: StreamReader, target: StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                await self._goes_on.wait()
                if target not in self._were_in_hole:
                    target.write(data)
                    await target.drain()
        finally:
            # What has been written still goes out; the other direction then ends by itself.
            with suppress(OSError):
                target.close()


async def serve(arguments: list[str]) -> None:
    """Forward, and do what stdin says, until it ends."""
    triples = zip(arguments[::3], arguments[1::3], arguments[2::3], strict=True)
    proxies = {name: Proxy(listen, target) for name, listen, target in triples}
    for proxy in proxies.values():
        await proxy.start()
    sys.stdout.write("done\n")
    sys.stdout.flush()
    commands = StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        what, name = line.decode().split()
        getattr(proxies[name], what)()
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
