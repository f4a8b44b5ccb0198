"""slapd, Debian's, with a tree of its own, StartTLS and nobody else's schema."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from certificates import ThrowAwayAuthority
from processes import PATIENCE_S, Program, application_user
from website import Account

BASE = "dc=homeward,dc=example"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "the directory's own password"
AGENT, AGENT_PASSWORD = f"cn=agent,{BASE}", "may read, and nothing else"

_CONFIGURATION = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {home}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {chain}
TLSCertificateKeyFile {key}
# No name and no password travels in clear.
security simple_bind=128
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw "{admin_password}"
directory {home}/data
access to attrs=userPassword by anonymous auth by * none
access to * by users read by anonymous auth by * none
"""

_TREE = """
dn: {base}
objectClass: dcObject
objectClass: organization
o: Homeward
dc: homeward

dn: ou=people,{base}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{base}
objectClass: organizationalUnit
ou: groups

dn: {agent}
objectClass: simpleSecurityObject
objectClass: organizationalRole
cn: agent
userPassword: {agent_password}
"""


class DirectoryServer:
    """Runs until it is stopped. `uid` is the login name of its people."""

    def __init__(self, folder: Path, authority: ThrowAwayAuthority) -> None:
        home = folder / "slapd"
        (home / "data").mkdir(parents=True)
        chain, key = authority.issue("slapd", ["127.0.0.1"])
        files = {"chain": shutil.copy(chain, home), "key": shutil.copy(key, home)}
        configuration = home / "slapd.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                home=home, base=BASE, admin=ADMIN, admin_password=ADMIN_PASSWORD, **files
            )
        )
        user = application_user()
        for path in [home, *home.iterdir()] if user else []:
            shutil.chown(path, user, user)
        self._ca_file = authority.file
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.url = f"ldap://127.0.0.1:{unused.getsockname()[1]}"
        # -d keeps it in the foreground; what it logs is only what it cannot do.
        self._program = Program("slapd", ["slapd", "-d", "none", "-f", configuration, "-h", f"{self.url}/"], user=user)
        deadline = time.monotonic() + PATIENCE_S
        while self._tries("ldapwhoami", "").returncode != 0:
            assert self._program.running and time.monotonic() < deadline, self._program.tail()
            time.sleep(0.1)
        self._says("ldapadd", _TREE.format(base=BASE, agent=AGENT, agent_password=AGENT_PASSWORD))

    def add(self, account: Account) -> None:
        self._says(
            "ldapadd",
            f"dn: {_person(account)}\nobjectClass: inetOrgPerson\nuid: {account.username}\n"
            f"cn: {account.first_name} {account.last_name}\ngivenName: {account.first_name}\nsn: {account.last_name}\n"
            f"mail: {account.email}\nuserPassword: {account.password}\n",
        )

    def add_group(self, name: str, *members: Account) -> None:
        lines = "".join(f"member: {_person(member)}\n" for member in members)
        self._says("ldapadd", f"dn: cn={name},ou=groups,{BASE}\nobjectClass: groupOfNames\ncn: {name}\n{lines}")

    def remove_group(self, name: str) -> None:
        self._says("ldapdelete", "", f"cn={name},ou=groups,{BASE}")

    def disable(self, account: Account) -> None:
        """As many directories mark it, having nothing of their own for it."""
        self._says(
            "ldapmodify", f"dn: {_person(account)}\nchangetype: modify\nreplace: employeeType\nemployeeType: disabled\n"
        )

    def says_address(self, account: Account, email: str) -> None:
        """Has this address from now on."""
        self._says("ldapmodify", f"dn: {_person(account)}\nchangetype: modify\nreplace: mail\nmail: {email}\n")

    def remove(self, account: Account) -> None:
        self._says("ldapdelete", "", _person(account))

    def stop(self) -> None:
        self._program.stop()

    def _says(self, program: str, text: str, *arguments: str) -> None:
        done = self._tries(program, text, *arguments)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def _tries(self, program: str, text: str, *arguments: str) -> subprocess.CompletedProcess:
        as_admin = ["-H", self.url, "-ZZ", "-x", "-D", ADMIN, "-w", ADMIN_PASSWORD]
        return subprocess.run(
            [program, *as_admin, *arguments],
            input=text,
            text=True,
            capture_output=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LDAPTLS_CACERT": str(self._ca_file)},
        )


def _person(account: Account) -> str:
    return f"uid={account.username},ou=people,{BASE}"
