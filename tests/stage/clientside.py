"""What a client has on the web beside its callback, behind nginx: key sets, request objects, logout addresses."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from processes import PATIENCE_S

Answer = tuple[int, str, bytes]


@dataclass(frozen=True)
class Call:
    """One request that came."""

    method: str
    path: str
    body: str
    headers: Mapping[str, str]


class ClientSide:
    """A small web server in the test's own process; a path can be given a document or a function."""

    def __init__(self, port: int = 0) -> None:
        self._answers: dict[str, Callable[[Call], Answer]] = {}
        self._calls: list[Call] = []
        self._news = threading.Condition(threading.RLock())
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return "{}:{}".format(*self._server.server_address)

    def shows(self, path: str, document: str | bytes, content_type: str = "application/json") -> None:
        """From now on, this is what is there."""
        body = document.encode() if isinstance(document, str) else document
        self._answers[path] = lambda _: (200, content_type, body)

    def answers(self, path: str, answer: Callable[[Call], Answer]) -> None:
        self._answers[path] = answer

    def calls(self, path: str) -> list[Call]:
        with self._news:
            return [call for call in self._calls if call.path.split("?")[0] == path]

    def awaits(self, path: str, number: int = 1) -> list[Call]:
        """Waits until a path was asked that often."""
        with self._news:
            found = self._news.wait_for(lambda: len(self.calls(path)) >= number, PATIENCE_S)
        assert found, f"{path} was asked {len(self.calls(path))} times, not {number}"
        return self.calls(path)

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, call: Call) -> Answer:
        with self._news:
            self._calls.append(call)
            self._news.notify_all()
        answer = self._answers.get(call.path.split("?")[0])
        return answer(call) if answer else (404, "text/plain", b"nothing here")


def _handler(side: ClientSide) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            status, content_type, answer = side._answer(Call(self.command, self.path, body, self.headers))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """nginx has the log."""

    return Handler
