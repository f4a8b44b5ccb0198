"""What stands before several brokers: a balancer of TCP connections. Each goes to the next broker that takes it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading


class Balancer:
    """Listens on one port of loopback, in a thread of its own, until it is closed."""

    def __init__(self, port: int, behind: list[int]) -> None:
        self._port, self._behind = port, behind
        self._turn = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serves(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(10), f"port {port} cannot be listened on"

    def closes(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    async def _serves(self, ready: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._takes, "127.0.0.1", self._port)
        ready.set()
        await self._ended.wait()
        # Connections end with the loop.
        server.close()

    async def _takes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(self._turn)
        with contextlib.closing(writer):
            for step in range(len(self._behind)):
                port = self._behind[(first + step) % len(self._behind)]
                try:
                    there = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    continue
                with contextlib.closing(there[1]):
                    # Who loses one side loses the other.
                    passed = [asyncio.ensure_future(_passes(reader, there[1])), asyncio.ensure_future(_passes(there[0], writer))]
                    await asyncio.wait(passed, return_when=asyncio.FIRST_COMPLETED)
                    for task in passed:
                        task.cancel()
                return


async def _passes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
