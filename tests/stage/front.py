"""nginx as it stands before everything: one HTTPS address each for the broker and the sites."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from certificates import ThrowAwayAuthority
from processes import Program, application_user

_SERVER = """
    server {{
        listen {address} ssl;
        ssl_certificate {chain};
        ssl_certificate_key {key};
{locations}
    }}
"""

_LOCATION = """        location {path} {{
            proxy_pass http://{upstream};
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }}
"""

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server_tokens off;
{servers}
}}
"""


@dataclass
class PublicAddress:
    """A loopback address with a port that is ours from the start, so that everyone can be told before nginx runs."""

    name: str
    host: str
    # Path prefix -> address of the plain HTTP program behind it.
    behind: dict[str, str] = field(default_factory=dict)
    # Further locations, in nginx's own words.
    locations: str = ""

    def __post_init__(self) -> None:
        self.socket = socket.create_server((self.host, 0), backlog=128)
        self.port = self.socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"


class Front:
    """nginx. It inherits the sockets of the public addresses, as it would from its predecessor in an upgrade."""

    def __init__(self, folder: Path, authority: ThrowAwayAuthority, addresses: list[PublicAddress]) -> None:
        self._folder = folder
        self._addresses = list(addresses)
        self._authority = authority
        self._program: Program | None = None

    @property
    def ca_file(self) -> Path:
        """Whose certificates it shows."""
        return self._authority.file

    @property
    def addresses(self) -> list[PublicAddress]:
        return list(self._addresses)

    def address(self, name: str) -> PublicAddress:
        """One more address, on a host of its own. It is served from the next start on."""
        number = len(self._addresses)
        self._addresses.append(PublicAddress(name, f"127.0.{number // 250}.{number % 250 + 1}"))
        return self._addresses[-1]

    def start(self) -> None:
        """Starts it with what is behind each address by now.

        A running one is ended first, since nobody can tell when the last worker of a reload with the old configuration
        is gone. The sockets stay open, so whoever connects in between just waits.
        """
        self.stop()
        self._chain, self._key = self._authority.issue("front", [address.host for address in self._addresses])
        configuration = self._folder / "nginx.conf"
        configuration.write_text(self._rendered())
        sockets = [address.socket.fileno() for address in self._addresses]
        self._program = Program(
            "nginx",
            ["nginx", "-e", "stderr", "-c", configuration],
            env={"NGINX": "".join(f"{number};" for number in sockets)},
            pass_fds=sockets,
        )

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()

    def _rendered(self) -> str:
        servers = (
            _SERVER.format(
                address=f"{address.host}:{address.port}",
                chain=self._chain,
                key=self._key,
                locations="".join(_LOCATION.format(path=path, upstream=to) for path, to in address.behind.items())
                + address.locations,
            )
            for address in self._addresses
        )
        user = application_user()
        return _CONFIGURATION.format(
            folder=self._folder, user=f"user {user};" if user else "", servers="".join(servers)
        )
