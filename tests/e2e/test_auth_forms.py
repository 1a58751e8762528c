"""Every form in which clients bring credentials, each with the client that has it, against the real provider."""

import base64
import re
import urllib.parse
import uuid

import pytest

from connect_wire import Answer, call, config_get
from keycloak_admin import KeycloakAdmin

# Of deploy/local/sparklocal/keycloak.py.
UMLAUTS = ("jürgen", "pä:ss:wört €")

COLLECT = "print(spark.range(3).count())"
WHO = "SELECT current_user()"


def b64(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def owner(objects):
    """owner() -> whose the only session is."""

    def call() -> str:
        (session,) = objects("sis")
        return session["spec"]["user"]

    return call


@pytest.fixture
def url(environment):
    """url(**parameters) -> a Spark Connect URL with them."""

    def call(**parameters: str) -> str:
        text = ";".join(f"{key}={urllib.parse.quote(value, safe='')}" for key, value in parameters.items())
        return f"sc://localhost:{environment.port}/;{text}"

    return call


@pytest.fixture
def login(environment, users) -> tuple[str, str]:
    return users[0], environment.password(users[0])


@pytest.fixture
def keycloak_user(environment):
    """keycloak_user(name, password) -> both, of somebody who goes with the test."""
    admin = KeycloakAdmin(environment["OIDC_ISSUER"], environment.state / "secrets" / "keycloak-admin")
    made = []

    def create(name: str, password: str) -> tuple[str, str]:
        made.append(admin.create_user(name, password))
        return name, password

    yield create
    for user_id in made:
        admin.delete_user(user_id)


def test_pyspark_by_token_with_a_password(pyspark, url, login, owner):
    pyspark(COLLECT, url(token=b64(*login)), stop=False).succeeded()
    assert owner() == login[0]


def test_pyspark_by_token_with_unpadded_base64_as_scala_and_go_send_it(pyspark, url, login, owner):
    pyspark(COLLECT, url(token=b64(*login).rstrip("=")), stop=False).succeeded()
    assert owner() == login[0]


def test_pyspark_by_token_with_a_jwt(pyspark, url, access_token, users, owner):
    pyspark(COLLECT, url(token=access_token(users[1])), stop=False).succeeded()
    assert owner() == users[1]


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
@pytest.mark.parametrize("header", ["authorization", "authentication"])
def test_pyspark_by_a_header_in_the_url(pyspark, url, login, owner, header, scheme):
    pyspark(COLLECT, url(**{header: f"{scheme} {b64(*login)}"}), stop=False).succeeded()
    assert owner() == login[0]


def test_pyspark_by_the_two_headers(pyspark, url, login, owner):
    pyspark(COLLECT, url(**{"x-spark-username": login[0], "x-spark-password": login[1]}), stop=False).succeeded()
    assert owner() == login[0]


def test_a_password_with_colons_and_umlauts(pyspark, beeline, pyhive, url, owner):
    pyspark(COLLECT, url(token=b64(*UMLAUTS)), stop=False).succeeded()
    assert owner() == UMLAUTS[0]
    assert pyhive(WHO, *UMLAUTS).succeeded().out == f"{UMLAUTS[0]}\n"


def test_users_by_their_mail_addresses_are_users_of_their_own(pyhive, beeline, keycloak_user, users):
    """HiveServer2 would take each of them for the user before the @, who is users[0]."""
    both = [keycloak_user(f"{users[0]}@{company}.example", "a-password") for company in ("partner", "corp")]
    for user, password in both:
        escaped = user.replace("@", "%40")
        assert pyhive(f"{WHO}, url_decode(current_user())", user, password).succeeded().out == f"{escaped} {user}\n"
        assert beeline(WHO, user, password).succeeded().rows()[1] == [escaped]
    assert pyhive(WHO, users[0]).succeeded().out == f"{users[0]}\n"


def test_a_password_in_latin_1(pyspark, url, owner, keycloak_user):
    """As Java's getBytes("ISO-8859-1") in older Hive drivers."""
    name, password = keycloak_user("latin-1", "pässwört")
    token = base64.b64encode(f"{name}:{password}".encode("latin-1")).decode()
    pyspark(COLLECT, url(token=token), stop=False).succeeded()
    assert owner() == name
    wrong = base64.b64encode(f"{name}:pässwort".encode("latin-1")).decode()
    assert pyspark(COLLECT, url(token=wrong)).complaint() == (
        "pyspark.errors.exceptions.connect.SparkConnectGrpcException: Wrong user name or password. They were not sent as "
        "UTF-8 and were read as Latin-1, which is a guess: let the client send UTF-8, or log in with a token."
    )


def test_the_same_login_twice_as_jvm_clients_send_it(login, access_token, users, environment):
    """That of $SPARK_REMOTE and that of the URL."""
    jwt = access_token(users[0])
    headers = [f"Bearer {b64(*login)}", f"Bearer {jwt}", f"Bearer {b64(users[1], environment.password(users[1]))}"]

    def answer(*values: str) -> Answer:
        session = str(uuid.uuid4())
        address = f"127.0.0.1:{environment.port}"
        sent = [("authorization", value) for value in values]
        return call(address, "Config", config_get(session, "spark.app.name"), sent, "localhost")

    assert answer(headers[0], headers[0]).code == "OK"
    assert answer(headers[1], headers[1], headers[1]).code == "OK"
    for first, second in [(headers[0], headers[2]), (headers[1], headers[2]), (headers[0], headers[1])]:
        assert answer(first, second).refused("UNAUTHENTICATED") == (
            "Different Authorization headers were sent with one request; send one. Spark's JVM clients send the login of "
            "$SPARK_REMOTE beside that of the URL: unset SPARK_REMOTE, or leave the login out of one of the two."
        )


@pytest.mark.parametrize("name", ["token", "whoever"])
def test_beeline_and_pyhive_by_a_jwt_as_the_password(beeline, pyhive, access_token, users, name):
    token = access_token(users[0])
    assert beeline(WHO, name, token).succeeded().rows()[1] == [users[0]]
    assert pyhive(WHO, name, token).succeeded().out == f"{users[0]}\n"


def test_beeline_by_headers_beside_its_own_nobody(beeline, login):
    options = f";http.header.x-spark-username={login[0]};http.header.x-spark-password={login[1]}"
    assert beeline(WHO, None, options=options).succeeded().rows()[1] == [login[0]]


@pytest.mark.parametrize("form", ["base64", "plain", "jwt"])
def test_a_login_in_the_user_id_is_refused_with_the_right_url(pyspark, url, login, access_token, environment, objects, form):
    secret = {"base64": b64(*login), "plain": ":".join(login), "jwt": access_token(login[0])}[form]
    complaint = pyspark(COLLECT, url(user_id=secret)).complaint()
    assert complaint == (
        "pyspark.errors.exceptions.connect.SparkConnectGrpcException: The connection URL has the login in its user_id, "
        "which Spark shows in its UI and logs, so it is not taken from there. Write sc://localhost:443/;token=<token> "
        "instead, or without TLS sc://localhost:80/;authorization=Bearer%20<token>. The token is base64 of user:password, "
        "or one of the identity provider."
    )
    assert objects("sis") == []
    assert secret not in environment.log("operator")


def test_who_logs_in_otherwise_may_call_themselves_what_they_like(pyspark, url, login, owner):
    pyspark(COLLECT, url(token=b64(*login), user_id="somebody:else"), stop=False).succeeded()
    assert owner() == login[0]


def test_too_many_wrong_passwords_are_told_with_the_time_to_wait(pyspark, pyhive, url, environment):
    """Of a user who does not exist: nobody else is slowed down by this test."""
    for guess in range(10):
        assert "Wrong user name or password." in pyhive("SELECT 1", "nobody-at-all", f"guess-{guess}").complaint()
    complaint = pyhive("SELECT 1", "nobody-at-all", "guess-10").complaint()
    assert re.search(r"Too many failed logins for user nobody-at-all\. Try again in \d+ s\.", complaint)
    assert 'sqlState="28000"' in complaint.replace("'", '"')
    complaint = pyspark(COLLECT, url(token=b64("nobody-at-all", "guess-11"))).complaint()
    assert re.search(r"SparkConnectGrpcException: Too many failed logins for user nobody-at-all\. Try again in \d+ s\.$", complaint)
    told = [line for line in environment.log("operator").splitlines() if 'event="LoginLimited" user="nobody-at-all"' in line]
    assert len(told) == 1
