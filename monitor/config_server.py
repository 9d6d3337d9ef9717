"""The part of the configuration file about the server: its address, its certificate, and who may look."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, SecretStr

from monitor.config_types import Name, Section

FEWEST_CHARACTERS = 8


class TlsConfig(Section):
    """A certificate with its key; both are read again when the files change."""

    cert: Name = Field(description="File with the certificate and those that vouch for it, in PEM.")
    key: Name = Field(description="File with the certificate's key, in PEM and without a passphrase.")


class AuthConfig(Section):
    """What opens the server: a user with a password, a token, or either of them."""

    user: str = Field("", max_length=64, description="Name for HTTP's basic authentication; needs a password.")
    password: SecretStr = Field(SecretStr(""), description="Password; take it from ${NAME} or ${file:PATH}.")
    token: SecretStr = Field(SecretStr(""), description="Bearer token; browsers may show it as anybody's password.")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Yield what is wrong: the key, what has to hold, and what to do."""
        if bool(self.user) != bool(self.password.get_secret_value()):
            yield ("user" if self.user else "password"), "a user and a password need each other", "set both, or a token"
        elif not self.user and not self.token.get_secret_value():
            yield "token", "nothing would open the server", "set token, or user and password"
        if ":" in self.user:
            yield "user", "must have no colon, which ends a user's name in HTTP", "rename it"
        for name in ("password", "token"):
            yield from ((name, *wrong) for wrong in too_short(getattr(self, name)))


def too_short(secret: SecretStr) -> Iterator[tuple[str, str]]:
    """Yield what a secret lacks that could be guessed, and what to do."""
    if 0 < len(secret.get_secret_value()) < FEWEST_CHARACTERS:
        yield f"must have at least {FEWEST_CHARACTERS} characters", "make one: openssl rand -hex 16"


class ServerConfig(Section):
    """Where metrics, health and the status page are served."""

    host: str = Field("127.0.0.1", description="Address to bind; loopback unless told otherwise.")
    port: int = Field(9464, ge=0, le=65535, description="Port; 0 takes a free one.")
    tls: TlsConfig | None = Field(None, description="Serve HTTPS with this certificate.")
    auth: AuthConfig | None = Field(None, description="What has to be shown for all but /healthz and /readyz.")

    def without_auth(self) -> ServerConfig:
        """Return what is bound at the start, which a reload cannot change."""
        return self.model_copy(update={"auth": None})
