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

    def create_user(self, name: str, password: str, *groups: str) -> str:
        """-> its id."""
        user = {
            "username": name,
            "enabled": True,
            "email": name if "@" in name else f"{name}@example.com",
            "firstName": name,
            "lastName": "Example",
            "groups": [f"/{group}" for group in groups],
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

    def sessions(self, user_id: str) -> list[dict]:
        """What logins of the user the server keeps."""
        return self._call("GET", f"/users/{user_id}/sessions")

    def take_mapper(self, client_id: str, name: str) -> dict:
        """Takes one of the client's own mappers of claims away -> what it was."""
        (client,) = self._call("GET", f"/clients?clientId={client_id}")
        (mapper,) = (mapper for mapper in client["protocolMappers"] if mapper["name"] == name)
        self._call("DELETE", f"/clients/{client['id']}/protocol-mappers/models/{mapper['id']}")
        return {key: value for key, value in mapper.items() if key != "id"}

    def add_mapper(self, client_id: str, mapper: dict) -> None:
        (client,) = self._call("GET", f"/clients?clientId={client_id}")
        self._call("POST", f"/clients/{client['id']}/protocol-mappers/models", mapper)

    def add_optional_scope(self, client_id: str, name: str, mapper: dict) -> str:
        """A scope of that name, with one mapper, which comes only when the client asks for it -> its id."""
        (client,) = self._call("GET", f"/clients?clientId={client_id}")
        self._call("POST", "/client-scopes", {"name": name, "protocol": "openid-connect", "protocolMappers": [mapper]})
        (scope,) = (scope for scope in self._call("GET", "/client-scopes") if scope["name"] == name)
        self._call("PUT", f"/clients/{client['id']}/optional-client-scopes/{scope['id']}")
        return scope["id"]

    def remove_scope(self, scope_id: str) -> None:
        self._call("DELETE", f"/client-scopes/{scope_id}")

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
