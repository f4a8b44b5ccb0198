"""Who logs in all the time, remembers what was acknowledged, and asks for it later.

What a broker has acknowledged is a *fact*: the session of a browser, and the tokens of a login. Each is asked for again,
most of them after another fault: a session must still log its browser in, a refresh token must work exactly once. Now
and then a code, a ticket, a handle or a refresh token is redeemed twice at the same time, and later once more: it may
have worked once.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import queue
import random
import secrets
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlencode, urljoin, urlsplit

from town import Refused, Town

# For one answer: more than any fault of the short kind lasts.
ANSWER_S = 10

# So many log in at once.
WORKERS = 4

# Until logins are acknowledged again, after a fault has ended.
RECOVERY_S = 30

# Somebody reloads a page that does not come for so long, and goes back to the application so often.
RELOADS_S = 8
BEGINNINGS = 3

# One of so many is redeemed twice at once.
TWICE = 6

# One login of so many begins in a new browser, and so goes to the home.
NEW_BROWSER = 4

# Facts are asked for again after this time.
REST_S = 0.4


class Away(Exception):
    """No answer: what was asked for may or may not have happened."""


class Busy(Exception):
    """The broker says that it cannot do it now."""


class Homeless(Exception):
    """Nobody can log in at the home, whose agent has lost its broker; who has a session can go on."""


class Wrong(Exception):
    """An answer that nothing explains."""


@dataclass
class Answer:
    status: int
    location: str
    cookies: list[str]
    body: bytes

    def document(self) -> dict:
        try:
            return json.loads(self.body)
        except ValueError:
            raise Wrong(f"no JSON: {self.status} {self.body[:200]!r}") from None


class Line:
    """Connections that are kept, one to each host."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._open: dict[tuple[str, int], http.client.HTTPConnection] = {}

    def asks(self, method: str, url: str, headers: dict[str, str], body: str | None = None) -> Answer:
        parts = urlsplit(url)
        where = self._town.route(parts.hostname, parts.port, parts.path)
        connection = self._open.get(where)
        if connection is None:
            connection = self._open[where] = http.client.HTTPConnection(*where, timeout=ANSWER_S)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        # From everywhere: what is limited by address is not what is tried here.
        source = f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        try:
            connection.request(method, path, body, {"Host": parts.netloc, "X-Forwarded-For": source} | headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            del self._open[where]
            raise Away(str(error)) from None
        if response.status == 503:
            raise Busy(f"503 {content[:100]!r}")
        if response.status == 429 or response.status >= 500:
            raise Wrong(f"{response.status} from {url}: {content[:300]!r}")
        return Answer(response.status, response.headers.get("Location", ""), response.headers.get_all("Set-Cookie", []), content)


class Browser:
    """Cookies of one person."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.cookies: dict[str, dict[str, str]] = {"home.localhost": {"account": account}}

    def gets(self, line: Line, url: str) -> Answer:
        jar = self.cookies.setdefault(urlsplit(url).hostname, {})
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())} if jar else {}
        answer = line.asks("GET", url, headers)
        self.takes(url, answer)
        return answer

    def takes(self, url: str, answer: Answer) -> None:
        jar = self.cookies.setdefault(urlsplit(url).hostname, {})
        for cookie in answer.cookies:
            name, _, value = cookie.split(";")[0].partition("=")
            if "max-age=0" in cookie.lower():
                jar.pop(name, None)
            else:
                jar[name] = value


@dataclass
class Fact:
    """A login that was acknowledged."""

    fault: str
    at: float
    browser: Browser
    refresh_token: str
    code: str
    verifier: str
    # A use of the refresh token was not answered: it may be used up.
    maybe_used: bool = False


@dataclass
class Row:
    """What is known about one kind of fault."""

    count: int = 0
    acknowledged: int = 0
    checked: int = 0
    lost: int = 0
    twice: int = 0
    outage: float = 0.0


@dataclass
class Board:
    """What everybody has seen. `fault` is what is being done to the brokers now."""

    rows: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)
    fault: str = "none"
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: float = 0.0

    def begins(self, fault: str) -> None:
        with self._lock:
            self.rows.setdefault(fault, Row())
            self.fault, self._last = fault, time.monotonic()

    def row(self) -> Row:
        return self.rows[self.fault]

    def struck(self) -> None:
        with self._lock:
            self.row().count += 1

    def acknowledges(self) -> str:
        now = time.monotonic()
        with self._lock:
            row = self.row()
            row.acknowledged += 1
            row.outage = max(row.outage, now - self._last)
            self._last = now
            return self.fault

    def acknowledged(self) -> int:
        return self.row().acknowledged

    def checked(self, fault: str) -> None:
        with self._lock:
            self.rows[fault].checked += 1

    def lost(self, fault: str, what: str) -> None:
        with self._lock:
            self.rows[fault].lost += 1
            self.notes.append(f"LOST after {fault}: {what}")

    def twice(self, fault: str, what: str) -> None:
        with self._lock:
            self.rows[fault].twice += 1
            self.notes.append(f"USED TWICE during {fault}: {what}")

    def wrong(self, what: str) -> None:
        with self._lock:
            self.seen["unexplained answers"] += 1
            self.notes.append(f"UNEXPLAINED at {datetime.now(UTC):%H:%M:%S.%f} during {self.fault}: {what}")

    def sees(self, what: str, count: int = 1) -> None:
        with self._lock:
            self.seen[what] += count


class Worker(threading.Thread):
    """One of those who log in."""

    def __init__(self, number: int, town: Town, board: Board) -> None:
        super().__init__(daemon=True)
        self._town, self._board, self._number = town, board, number
        self._line, self._second_line = Line(town), Line(town)
        self._second = ThreadPoolExecutor(1)
        self._browser: Browser | None = None
        self._turn = 0
        self._cut_off = False
        self.facts: deque[Fact] = deque()
        self.ended = threading.Event()
        client = town.client
        secret = f"{quote(client['client_id'], safe='')}:{quote(client['client_secret'], safe='')}"
        self._basic = {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"}
        self._callback = f"{town.party.url}/callback"

    def run(self) -> None:
        while not self.ended.is_set():
            self._tries(self._logs_in)
            while self.facts and time.monotonic() - self.facts[0].at > REST_S and not self.ended.is_set():
                if not self._tries(self._checks_first):
                    break

    def checks_all(self, patience_s: float) -> None:
        """At the end, of a broker that has recovered: everything that was not asked for yet."""
        deadline = time.monotonic() + patience_s
        while self.facts and time.monotonic() < deadline:
            self._tries(self._checks_first)
        for fact in self.facts:
            self._board.lost(fact.fault, "nobody answered any more")
        self._second.shutdown()

    def _tries(self, step: Callable[[], None]) -> bool:
        try:
            step()
            return True
        except Away:
            self._board.sees("no answer")
            time.sleep(0.02)
        except Busy:
            self._board.sees("503")
            time.sleep(0.05)
        except Homeless:
            self._board.sees("home not connected")
            time.sleep(0.05)
        except Wrong as wrong:
            self._board.wrong(str(wrong))
            self._browser = None
            time.sleep(0.05)
        return False

    # A login.

    def _logs_in(self) -> None:
        self._turn += 1
        if self._browser is None or self._turn % NEW_BROWSER == 0:
            browser = Browser(f"user{self._number}")
        else:
            browser = self._browser
        verifier = secrets.token_urlsafe(48)
        codes = self._comes_through(browser, verifier)
        if len(codes) > 1:
            self._board.twice(self._board.fault, "a ticket or handle")
        code = codes[0]
        if random.randrange(TWICE) == 0:
            self._redeems_twice(code, verifier)
            self._browser = browser
            return
        answer = self._redeems(self._line, code, verifier)
        if answer.status != 200:
            raise Wrong(f"a code was refused: {answer.body[:200]!r}")
        self._browser = browser
        tokens = answer.document()
        fault = self._board.acknowledges()
        self.facts.append(Fact(fault, time.monotonic(), browser, tokens["refresh_token"], code, verifier))

    def _address(self, verifier: str, **more: str) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "client_id": self._town.client["client_id"],
            "redirect_uri": self._callback,
            "response_type": "code",
            "scope": "openid email offline_access",
            "state": secrets.token_urlsafe(8),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._town.url}/authorize?{urlencode(query | more)}"

    def _comes_through(self, browser: Browser, verifier: str) -> list[str]:
        """Whoever is cut off on the way comes through by reloading; or, where the answer that was lost had used up what the
        reload shows again, from the application, without a step of the way being refused for any other reason."""
        for _ in range(BEGINNINGS):
            self._cut_off = False
            try:
                codes = self._authorizes(browser, self._address(verifier))
            except Wrong:
                if not self._cut_off:
                    raise
                self._board.sees("logins cut off, begun again")
            else:
                self._board.sees("logins cut off, gone on by a reload", int(self._cut_off))
                return codes
        raise Busy("cut off again and again")

    def _loads(self, browser: Browser, url: str) -> Answer:
        """A page, reloaded while it does not come."""
        deadline = time.monotonic() + RELOADS_S
        while True:
            try:
                return browser.gets(self._line, url)
            except (Away, Busy):
                if time.monotonic() > deadline:
                    raise
                self._cut_off = True
                time.sleep(0.05)

    def _authorizes(self, browser: Browser, url: str) -> list[str]:
        """All codes that come of this request: more than one if a step of it could be done twice."""
        twice = random.randrange(TWICE) == 0
        arrivals: list[str] = []
        # What is asked for twice is asked for at the same time, with the same cookies.
        todo = [url]
        for _ in range(24):
            if not todo:
                break
            url = todo.pop()
            spent = any(name in url for name in ("ticket=", "handle="))
            if twice and spent:
                other = self._second.submit(self._quietly, browser, url)
            answer = self._loads(browser, url)
            answers = [answer]
            if twice and spent:
                answers += [found] if (found := other.result()) else []
            for each in answers:
                if each is not answer and each.cookies:
                    # One browser: what the second answer set is there, too.
                    browser.takes(url, each)
                if each.status not in (302, 303):
                    if each is answer and not (twice and spent):
                        if b"Where is your account?" in each.body:
                            raise Homeless("the home is not connected yet")
                        raise Wrong(f"{each.status} from {url}: {each.body[:300]!r}")
                    continue
                to = urljoin(url, each.location)
                if to.startswith(self._callback):
                    arrivals.append(to)
                elif to not in todo:
                    todo.append(to)
        codes, refusals = [], []
        for arrival in arrivals:
            query = parse_qs(urlsplit(arrival).query)
            (codes if "code" in query else refusals).append(query.get("code", [arrival])[0])
        if not codes:
            if any("temporarily_unavailable" in arrival for arrival in refusals):
                raise Busy("temporarily_unavailable")
            if twice:
                raise Busy("asked twice, and neither came through")
            raise Wrong(f"no code: {refusals}")
        return codes

    def _quietly(self, browser: Browser, url: str) -> Answer | None:
        copy = Browser(browser.account)
        copy.cookies = {host: dict(jar) for host, jar in browser.cookies.items()}
        try:
            return copy.gets(self._second_line, url)
        except (Away, Busy):
            return None

    def _redeems(self, line: Line, code: str, verifier: str) -> Answer:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._callback, "code_verifier": verifier}
        return self._posts(line, form)

    def _refreshes(self, line: Line, token: str) -> Answer:
        return self._posts(line, {"grant_type": "refresh_token", "refresh_token": token})

    def _posts(self, line: Line, form: dict[str, str]) -> Answer:
        headers = self._basic | {"Content-Type": "application/x-www-form-urlencoded"}
        return line.asks("POST", f"{self._town.url}/token", headers, urlencode(form))

    def _redeems_twice(self, code: str, verifier: str) -> None:
        self._board.sees("codes redeemed twice")
        answers = self._both(lambda line: self._redeems(line, code, verifier))
        good = [answer for answer in answers if answer and answer.status == 200]
        if len(good) > 1:
            self._board.twice(self._board.fault, "a code")
        elif good and None not in answers:
            # RFC 6749 4.1.2: the second use took the tokens of the first with it.
            if self._refreshes(self._line, good[0].document()["refresh_token"]).status == 200:
                self._board.twice(self._board.fault, "tokens of a code that was replayed")

    def _both(self, ask: Callable[[Line], Answer]) -> list[Answer | None]:
        def quietly(line: Line) -> Answer | None:
            try:
                return ask(line)
            except (Away, Busy):
                return None

        other = self._second.submit(quietly, self._second_line)
        return [quietly(self._line), other.result()]

    # A fact.

    def _checks_first(self) -> None:
        fact = self.facts[0]
        answer = fact.browser.gets(self._line, self._address(fact.verifier, prompt="none"))
        if "code=" not in answer.location:
            if "temporarily_unavailable" in answer.location:
                raise Busy("temporarily_unavailable")
            self._board.lost(fact.fault, f"a session: {answer.status} {answer.location[:200]} {answer.body[:100]!r}")
        if random.randrange(TWICE) == 0 and not fact.maybe_used:
            self._checks_twice(fact)
        else:
            try:
                answer = self._refreshes(self._line, fact.refresh_token)
            except (Away, Busy):
                fact.maybe_used = True
                raise
            if answer.status != 200 and not fact.maybe_used:
                self._board.lost(fact.fault, f"a refresh token: {answer.body[:200]!r}")
        self.facts.popleft()
        self._board.checked(fact.fault)
        self._replays(fact)

    def _checks_twice(self, fact: Fact) -> None:
        self._board.sees("refresh tokens used twice")
        answers = self._both(lambda line: self._refreshes(line, fact.refresh_token))
        good = sum(answer is not None and answer.status == 200 for answer in answers)
        if good > 1:
            self._board.twice(self._board.fault, "a refresh token")
        if good == 0 and None not in answers:
            self._board.lost(fact.fault, f"a refresh token: {answers[0].body[:200]!r}")

    def _replays(self, fact: Fact) -> None:
        """What is used up stays so, whatever happened since."""
        if random.randrange(TWICE) != 0:
            return
        self._board.sees("replays")
        try:
            if self._redeems(self._line, fact.code, fact.verifier).status == 200:
                self._board.twice(fact.fault, "a code, later")
            if self._refreshes(self._line, fact.refresh_token).status == 200 and not fact.maybe_used:
                self._board.twice(fact.fault, "a refresh token, later")
        except (Away, Busy):
            # Then it was not tried.
            return


class Enroller(threading.Thread):
    """Gives one join token to two agents at once, again and again: one of them becomes a member."""

    def __init__(self, town: Town, board: Board, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._town, self._board, self._pause_s = town, board, pause_s
        self.ended = threading.Event()

    def run(self) -> None:
        for number in range(10_000):
            if self.ended.wait(self._pause_s):
                return
            self._enrols(f"stranger{number}")

    def _enrols(self, name: str) -> None:
        try:
            token = self._town.join_token(name)
        except Refused:
            return
        fault = self._board.fault
        agents = [self._town.stranger(name, number) for number in range(2)]
        members: queue.Queue = queue.Queue()

        def enrols(number: int) -> None:
            # An agent that was not answered asks again with the same key: that is one use.
            for _ in range(4):
                try:
                    agents[number].says("enrol", "--token-file", "-", stdin=token)
                    members.put(number)
                    return
                except subprocess.TimeoutExpired:
                    # It asks on and on while the broker cannot answer.
                    continue
                except AssertionError as refused:
                    if "does not accept this join token" in str(refused):
                        self._board.lost(fault, f"a join token: {refused}")
                        return
                    time.sleep(0.5)

        threads = [threading.Thread(target=enrols, args=[number]) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._board.sees("join tokens used twice")
        if members.qsize() > 1:
            self._board.twice(fault, "a join token")


class Crowd:
    """People who log in, and operators who enrol agents, until everything that was acknowledged was asked for again."""

    def __init__(self, town: Town, board: Board, first: str) -> None:
        board.begins(first)
        self._workers = crowd(town, board, WORKERS)
        self._enroller = Enroller(town, board, 1)

    def __enter__(self) -> None:
        self._enroller.start()

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._enroller.ended.set()
        self._enroller.join(60)
        ends(self._workers, failed=kind is not None)


def goes_on(board: Board) -> None:
    """Waits until logins are acknowledged again."""
    before, deadline = board.acknowledged(), time.monotonic() + RECOVERY_S
    while board.acknowledged() == before:
        assert time.monotonic() < deadline, f"nobody could log in for {RECOVERY_S} s after: {board.fault}"
        time.sleep(0.01)


def ends(workers: list[Worker], *, failed: bool = False) -> None:
    for worker in workers:
        worker.ended.set()
    for worker in workers:
        worker.join(60)
    for worker in workers:
        worker.checks_all(0 if failed else RECOVERY_S)


def crowd(town: Town, board: Board, number: int) -> list[Worker]:
    workers = [Worker(each, town, board) for each in range(number)]
    for worker in workers:
        worker.start()
    return workers
