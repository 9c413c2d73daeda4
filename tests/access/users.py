"""Users for tests: created without audit entries, signed in over HTTP."""

import secrets
from typing import Any

import asyncpg
import httpx2

from longshore.access import one_time_codes, passwords, users
from longshore.access.tokens import Level
from tests.service import CHAIN, Longshore, in_own_loop

PASSWORD = "correct horse battery staple"


class User:
    """A user of a service, with the secret of their one-time codes; None without them."""

    def __init__(self, service: Longshore, id: int, name: str, password: str, totp: str | None) -> None:
        self.service, self.id, self.name, self.password, self.totp = service, id, name, password, totp

    def sign_in(self, password: str | None = None, **more: Any) -> httpx2.Response:
        body = {"username": self.name, "password": password or self.password, **more}
        return httpx2.post(f"{self.service.address}/auth/login", json=body, timeout=60)

    def session(self, chain: int = CHAIN, prefix: str = "X-Session-") -> dict[str, str]:
        """The headers of a new session."""
        answer = self.sign_in()
        assert answer.status_code == 200, answer.text
        return headers_of(answer.json(), chain, prefix)

    def client(self, chain: int = CHAIN) -> httpx2.Client:
        """A client with a session of its own."""
        return httpx2.Client(base_url=self.service.address, headers=self.session(chain), timeout=60)


def headers_of(opened: dict[str, Any], chain: int = CHAIN, prefix: str = "X-Session-") -> dict[str, str]:
    return {
        f"{prefix}User-Id": str(opened["user_id"]),
        f"{prefix}Key": opened["session_key"],
        f"{prefix}Chain-Id": str(chain),
    }


def new_user(service: Longshore, *, totp: bool = False, password: str = PASSWORD, **levels: Level) -> User:
    """A new user; `levels` by chain, such as `_1764=Level.READ`."""
    name = f"anna-{secrets.token_hex(4)}"
    secret = one_time_codes.new_secret() if totp else None

    async def make() -> int:
        connection = await asyncpg.connect(service.url)
        try:
            user = int(await connection.fetchval(users.CREATE, name, await passwords.hash_password(password)))
            for chain, level in levels.items():
                await connection.execute(users.SET_LEVEL, user, int(chain.lstrip("_")), level.name.lower())
            if secret:
                sealed = one_time_codes.seal(service.vault, user, secret)
                await connection.execute(users.SET_ONE_TIME_CODES, user, sealed)
            return user
        finally:
            await connection.close()

    return User(service, in_own_loop(make()), name, password, secret)
