"""What an administrator of Keycloak does: users come and go, keys are replaced. No fixtures, no test cases."""

from __future__ import annotations

import json
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path

from clients import fetch


@dataclass(frozen=True)
class KeycloakAdmin:
    """By the admin API. Asks for a token each time: they live for a minute."""

    issuer: str
    secret: Path

    @property
    def _server(self) -> str:
        return f"http://{urllib.parse.urlsplit(self.issuer).netloc}"

    def _call(self, method: str, path: str, body: dict | None = None):
        login = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": self.secret.read_text()}
        answer = fetch(f"{self._server}/realms/master/protocol/openid-connect/token", urllib.parse.urlencode(login).encode())
        headers = {"authorization": f"Bearer {json.loads(answer)['access_token']}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        url = f"{self._server}/admin/realms/{self.issuer.rpartition('/')[2]}{path}"
        answer = fetch(url, data, headers=headers, method=method)
        return json.loads(answer) if answer else None

    def create_user(self, name: str, password: str) -> str:
        """-> its id."""
        user = {
            "username": name,
            "enabled": True,
            "email": f"{name}@example.com",
            "firstName": name,
            "lastName": "Example",
            "credentials": [{"type": "password", "value": password, "temporary": False}],
        }
        self._call("POST", "/users", user)
        (found,) = self._call("GET", f"/users?exact=true&username={urllib.parse.quote(name)}")
        return found["id"]

    def disable_user(self, user_id: str) -> None:
        self._call("PUT", f"/users/{user_id}", {"enabled": False})

    def log_out(self, user_id: str) -> None:
        """Ends all sessions of the user: refresh tokens are void."""
        self._call("POST", f"/users/{user_id}/logout")

    def delete_user(self, user_id: str) -> None:
        self._call("DELETE", f"/users/{user_id}")

    def token_lifespan(self, client_id: str, seconds: str) -> None:
        """Of access tokens for this client; empty for the realm's own."""
        (client,) = self._call("GET", f"/clients?clientId={client_id}")
        client["attributes"]["access.token.lifespan"] = seconds
        self._call("PUT", f"/clients/{client['id']}", client)

    def add_signing_key(self) -> str:
        """A new key, with which all further tokens are signed -> the id of its component."""
        name = f"rsa-{uuid.uuid4().hex[:8]}"
        component = {
            "name": name,
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": ["1000"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"]},
        }
        self._call("POST", "/components", component)
        (found,) = self._call("GET", f"/components?type=org.keycloak.keys.KeyProvider&name={name}")
        return found["id"]

    def remove_signing_key(self, component: str) -> None:
        self._call("DELETE", f"/components/{component}")
