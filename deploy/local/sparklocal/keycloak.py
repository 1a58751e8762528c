"""Keycloak with one realm: users, groups, the client by which the operator logs users in, and one for notebooks."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from . import commands
from .services import Services
from .settings import CLIENT_ID, REALM, Settings

GROUPS = {"alice": "data-science", "bob": "analysts"}

# A public client, with which people and programs get tokens of their own.
NOTEBOOK_CLIENT_ID = "spark-notebook"
# Those whom the operator has to refuse, or to understand. Their passwords are no secrets.
SPECIAL_USERS = {
    "mallory": {"enabled": False, "password": "mallory-password"},
    "trent": {"requiredActions": ["UPDATE_PASSWORD"], "password": "trent-password"},
    "jürgen": {"password": "pä:ss:wört €"},
}


def start(settings: Settings, services: Services, distribution: Path, java_home: Path) -> None:
    home = settings.state / "keycloak"
    if not home.exists():
        # Keycloak writes its database beside its programs, so each environment has a copy; hard links cost no space.
        shutil.copytree(distribution, home, copy_function=_link_or_copy, symlinks=True)
    imports = home / "data" / "import"
    imports.mkdir(parents=True, exist_ok=True)
    (imports / "spark-realm.json").write_text(json.dumps(realm(settings), indent=1))
    process = services.ensure(
        "keycloak",
        [
            str(home / "bin" / "kc.sh"),
            "start",
            "--optimized",
            "--import-realm",
            "--http-enabled=true",
            "--hostname-strict=false",
            "--cache=local",
            "--http-host=127.0.0.1",
            f"--http-port={settings.ports['keycloak']}",
        ],
        ["keycloak"],
        env={
            "JAVA_HOME": str(java_home),
            "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
            "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
            "KC_BOOTSTRAP_ADMIN_PASSWORD": settings.secret("keycloak-admin").read_text(),
        },
    )
    commands.wait_for("Keycloak serves the realm", lambda: healthy(settings), 180, process)


def healthy(settings: Settings) -> bool:
    return commands.http_ok(f"{settings.issuer}/.well-known/openid-configuration")


def realm(settings: Settings) -> dict:
    return {
        "realm": REALM,
        "enabled": True,
        "sslRequired": "none",
        "groups": [{"name": name} for name in sorted(set(GROUPS.values()))],
        "users": [
            *(_user(name, password) for name, password in settings.passwords.items()),
            *(_user(name, **special) for name, special in SPECIAL_USERS.items()),
        ],
        "clients": [
            {
                "clientId": CLIENT_ID,
                "enabled": True,
                "publicClient": False,
                "secret": settings.secret("oidc-client-secret").read_text(),
                "directAccessGrantsEnabled": True,
                "standardFlowEnabled": True,
                "redirectUris": _own_addresses(settings),
                "protocolMappers": [_audience_mapper(), _groups_mapper()],
            },
            {
                "clientId": NOTEBOOK_CLIENT_ID,
                "enabled": True,
                "publicClient": True,
                "directAccessGrantsEnabled": True,
                "standardFlowEnabled": False,
                "attributes": {"access.token.lifespan": "120"},
                "protocolMappers": [_audience_mapper(), _groups_mapper()],
            },
        ],
    }


def _own_addresses(settings: Settings) -> list[str]:
    """Where a browser may come back to after a login: the operator's own pages, directly or through Envoy."""
    ports = [settings.ports[name] for name in ("operator-rest", "envoy")]
    return [f"http://{host}:{port}/*" for host in ("localhost", "127.0.0.1") for port in ports]


def _user(name: str, password: str, **more) -> dict:
    return {
        "username": name,
        "enabled": True,
        # Without all three Keycloak refuses the password grant: "Account is not fully set up".
        "email": f"{name.encode('ascii', 'ignore').decode()}@example.com",
        "firstName": name.capitalize(),
        "lastName": "Example",
        "emailVerified": True,
        "groups": [f"/{GROUPS[name]}"] if name in GROUPS else [],
        "credentials": [{"type": "password", "value": password, "temporary": False}],
        **more,
    }


def _audience_mapper() -> dict:
    return {
        "name": "audience",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.client.audience": CLIENT_ID, "access.token.claim": "true"},
    }


def _groups_mapper() -> dict:
    return {
        "name": "groups",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-group-membership-mapper",
        "config": {"claim.name": "groups", "full.path": "false", "access.token.claim": "true", "id.token.claim": "true"},
    }


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
