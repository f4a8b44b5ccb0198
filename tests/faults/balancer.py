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
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._runs, args=[ready], daemon=True).start()
        assert ready.wait(10), f"port {port} cannot be listened on"

    def closes(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _runs(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._takes, "127.0.0.1", self._port))
        ready.set()
        self._loop.run_forever()

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
