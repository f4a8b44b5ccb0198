"""H5: floods of HTTP/2 frames, straight at the broker. It hangs up or takes its time; nobody else notices."""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import requests

from homeward import Broker

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# HPACK by the static table: GET and POST of /, and an authority.
GET = b"\x82\x86\x84\x41\x01x"
POST = b"\x83\x86\x84\x41\x01x"

LONGEST_S = 3
MOST_MEMORY = 32 * 1024 * 1024


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def rapid_reset() -> Iterator[bytes]:
    """CVE-2023-44487."""
    for stream in count(1, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, GET) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))


def continuation() -> Iterator[bytes]:
    """RUSTSEC-2024-0332: headers that never end."""
    yield frame(HEADERS, END_STREAM, 1, GET)
    # A literal that is not indexed, of a name and a value.
    field = b"\x00\x01a\x7f\x80\x07" + b"b" * 1023
    while True:
        yield frame(CONTINUATION, 0, 1, field)


def empty_data() -> Iterator[bytes]:
    """CVE-2019-9518."""
    yield frame(HEADERS, END_HEADERS, 1, POST)
    while True:
        yield frame(DATA, 0, 1)


def settings() -> Iterator[bytes]:
    """CVE-2019-9515: each wants an acknowledgement."""
    while True:
        yield frame(SETTINGS, 0, 0)


def ping() -> Iterator[bytes]:
    """CVE-2019-9512."""
    for number in count():
        yield frame(PING, 0, 0, struct.pack(">Q", number))


@pytest.mark.parametrize(
    ("flood", "hangs_up"),
    [(rapid_reset, True), (continuation, True), (empty_data, False), (settings, False), (ping, False)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_flood(broker: Broker, flood, hangs_up: bool) -> None:
    host, port = broker.public.behind["/"].split(":")
    memory = resident(broker)
    with socket.create_connection((host, int(port)), timeout=1) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        frames, ended, until = flood(), False, time.monotonic() + LONGEST_S
        asked = time.monotonic()
        while time.monotonic() < until and not ended:
            try:
                # Nothing is read meanwhile: answers pile up at the broker's side, not here.
                connection.sendall(b"".join(next(frames) for _ in range(50)))
            except TimeoutError:
                # It does not read any more before its answers are read.
                break
            except ConnectionError:
                ended = True
            if time.monotonic() - asked > 0.5:
                is_healthy(host, port)
                asked = time.monotonic()
        is_healthy(host, port)
        assert resident(broker) - memory < MOST_MEMORY
        if hangs_up:
            assert ended or goes_away(connection)


def is_healthy(host: str, port: str) -> None:
    assert requests.get(f"http://{host}:{port}/healthz", timeout=1).status_code == 200


def resident(broker: Broker) -> int:
    status = Path(f"/proc/{broker.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def goes_away(connection: socket.socket) -> bool:
    """Whether there is a GOAWAY among what it sent, or an end."""
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
        return True
    while len(received) >= 9:
        length, kind = int.from_bytes(received[:3]), received[3]
        if kind == GOAWAY:
            return True
        received = received[9 + length :]
    return False
