"""Debian's Apache with mod_auth_openidc, as an ordinary user on a high port, with a configuration of its own."""

import secrets
import shutil
import socket
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from processes import Program, application_user

_MODULES = ["mpm_event", "authn_core", "authz_core", "authz_user", "dir", "filter", "include", "mime", "auth_openidc"]

_CONFIGURATION = """
ServerRoot "{folder}"
DefaultRuntimeDir "{folder}"
PidFile "{folder}/apache.pid"
Listen {address}
ServerName {public_url}
UseCanonicalName On
LogLevel warn auth_openidc:info
ErrorLog "||/bin/cat"
{modules}
DocumentRoot "{folder}/pages"
DirectoryIndex index.shtml
TypesConfig /dev/null
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml

# nginx before it ends TLS.
OIDCXForwardedHeaders X-Forwarded-Proto

OIDCProviderMetadataURL "{issuer}/.well-known/openid-configuration"
OIDCCABundlePath "{ca_file}"
OIDCClientID "{client_id}"
OIDCPrivateKeyFiles "{kid}#{folder}/client.key"
OIDCPublicKeyFiles "{kid}#{folder}/client.pub"
# Refused before there is a key.
OIDCProviderTokenEndpointAuth private_key_jwt
OIDCRedirectURI "{public_url}/callback"
OIDCDefaultLoggedOutURL "{public_url}/"
OIDCCryptoPassphrase "{passphrase}"
OIDCScope "openid profile email"
OIDCPKCEMethod S256
OIDCResponseMode form_post
OIDCRemoteUserClaim preferred_username

<Directory "{folder}/pages">
    Options +Includes
</Directory>
<Location "/">
    AuthType openid-connect
    Require valid-user
</Location>
"""

_PAGE = """<!doctype html><title>Wiki</title><p id="who"><!--#echo var="REMOTE_USER" --></p>
<a href="/callback?logout={goodbye}">Sign out</a>
"""


class Apache:
    """One protected site. Its client has a key and no secret; the broker fetches the key from it."""

    def __init__(self, folder: Path, public_url: str, ca_file: Path) -> None:
        self._folder = folder
        self._public_url = public_url
        self._ca_file = ca_file
        # Apache takes no socket from its parent.
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.address = "{}:{}".format(*unused.getsockname())
        self._program: Program | None = None
        (folder / "pages").mkdir(parents=True)

    @property
    def metadata(self) -> dict[str, object]:
        """What it registers."""
        callback = f"{self._public_url}/callback"
        return {
            "redirect_uris": [callback],
            "client_name": "Wiki",
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": f"{callback}?jwks=rsa",
            "backchannel_logout_uri": f"{callback}?logout=backchannel",
            "backchannel_logout_session_required": True,
            "post_logout_redirect_uris": [f"{self._public_url}/"],
        }

    def runs(self, issuer: str, client_id: str) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        configuration = _CONFIGURATION.format(
            folder=self._folder,
            address=self.address,
            public_url=self._public_url,
            modules="\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _MODULES),
            issuer=issuer,
            ca_file=self._ca_file,
            client_id=client_id,
            kid="wiki-1",
            passphrase=secrets.token_hex(16),
        )
        goodbye = f"{self._public_url}/".replace(":", "%3A").replace("/", "%2F")
        files = {
            "client.key": private,
            "client.pub": public,
            "apache2.conf": configuration.encode(),
            "pages/index.shtml": _PAGE.format(goodbye=goodbye).encode(),
        }
        for name, content in files.items():
            (self._folder / name).touch(0o644 if name.startswith("pages/") else 0o600)
            (self._folder / name).write_bytes(content)
        user = application_user()
        if user:
            for path in [self._folder, *self._folder.rglob("*")]:
                shutil.chown(path, user, user)
        self._program = Program(
            "apache", ["apache2", "-D", "FOREGROUND", "-f", self._folder / "apache2.conf"], user=user
        )

    def stop(self) -> None:
        if self._program:
            self._program.stop()
