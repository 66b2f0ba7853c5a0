"""Credentials are checked when they are added: what would fail at the first send is refused here."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from clarion.errors import BadCredential
from clarion.store import credential_check as check
from tests.support import keys

P8 = keys.pem(keys.ec_key())

MANGLED: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "literal newlines": lambda text: text.replace("\n", "\\n"),
    "literal CRLF": lambda text: text.replace("\n", "\\r\\n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "one line": lambda text: text.replace("\n", ""),
    "spaces for newlines": lambda text: text.replace("\n", " "),
    "quoted": lambda text: '"' + text.replace("\n", "\\n") + '"',
    "indented": lambda text: "\n".join("  " + line for line in text.splitlines()),
    "middle part alone": lambda text: "".join(text.splitlines()[1:-1]),
}


def token(text: str | bytes) -> check.Checked:
    """Check a .p8 key with proper ids."""
    return check.apns_token(text, key_id=keys.KEY_ID, team_id=keys.TEAM_ID)


@pytest.mark.parametrize("mangle", MANGLED.values(), ids=MANGLED)
def test_keys_survive_forms_and_variables(mangle: Callable[[str], str]) -> None:
    """C42: a .p8 with literal line feeds, CRLF or on one line signs like the file itself."""
    secret = token(mangle(P8)).secret
    signed = jwt.encode({"iss": secret["team_id"]}, secret["private_key"], "ES256")

    assert secret["private_key"] == P8
    assert jwt.decode(signed, keys.ec_key().public_key(), ["ES256"]) == {"iss": keys.TEAM_ID}


@pytest.mark.parametrize("mangle", MANGLED.values(), ids=MANGLED)
def test_service_account_keys_survive_too(mangle: Callable[[str], str]) -> None:
    """C42: the same for the private key inside a service account."""
    account = keys.service_account(private_key=mangle(keys.service_account()["private_key"]))

    assert check.fcm(account).secret["private_key"] == keys.pem(keys.rsa_key())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG\n-----END PRIVATE KEY-----",
        P8[: len(P8) // 2],
        P8.replace("PRIVATE", "PUBLIC"),
        "c2VjcmV0IGtleSBieXRlcw==",
    ],
    ids=["empty", "cut inside", "cut off", "public", "something else"],
)
def test_a_broken_key_is_refused_without_showing_it(text: str) -> None:
    """C42: the error says what the file must be, and holds nothing of it, not even as its cause."""
    with pytest.raises(BadCredential, match=r"the \.p8 key cannot be read") as raised:
        token(text)

    assert raised.value.__cause__ is None
    assert not any(line and line in str(raised.value) for line in text.splitlines() if "-----" not in line)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65_537, 2_048), ec.generate_private_key(ec.SECP384R1())]
)
def test_apple_wants_p256(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    """A key of another kind or curve is named as such: Apple takes ES256 only."""
    with pytest.raises(BadCredential, match="not an elliptic curve key on P-256"):
        token(keys.pem(key))


@pytest.mark.parametrize(("key_id", "team_id"), [("short", keys.TEAM_ID), (keys.KEY_ID, "com.example")])
def test_ids_have_ten_characters(key_id: str, team_id: str) -> None:
    """Key id and team id are mixed up with other ids often enough."""
    with pytest.raises(BadCredential, match="must be 10 capital letters and digits"):
        check.apns_token(P8, key_id=key_id, team_id=team_id)


def test_a_p12_says_its_topics_and_environment() -> None:
    """The certificate's extensions name the topics it covers and where it may be used."""
    checked = check.apns_certificate(keys.p12(keys.certificate(), "right"), password="right")

    assert checked.topics == (keys.TOPIC, f"{keys.TOPIC}.voip")
    assert checked.environments == ("production",)
    assert check.apns_place(checked, None, None) == (keys.TOPIC, "production")
    assert checked.expires is not None


def test_many_topics_outgrow_a_short_length() -> None:
    """Lengths over 127 bytes are written in another form, which universal certificates reach."""
    topics = tuple(f"com.example.application{number:02d}.topic" for number in range(40))
    checked = check.apns_certificate(keys.p12(keys.certificate(topics=topics), "x"), password="x")

    assert checked.topics == topics


def test_an_old_certificate_names_its_topic_in_the_subject() -> None:
    """Without the list of topics the subject's UID is the topic."""
    text = keys.certificate_pem(keys.certificate(topics=(), production=False)) + P8
    checked = check.apns_certificate(text)

    assert check.apns_place(checked, None, None) == (keys.TOPIC, "sandbox")


def test_a_pem_may_be_two_files() -> None:
    """Certificate and key in one text or two, with lines mangled."""
    cert = keys.certificate_pem(keys.certificate())
    one = check.apns_certificate((cert + P8).replace("\n", "\\n"))
    two = check.apns_certificate(cert, private_key=P8)

    assert one.secret == two.secret
    assert one.secret["type"] == "certificate"


GOOD = keys.certificate()
CANNOT_BE_USED: dict[str, tuple[str | bytes, str | None, str]] = {
    "wrong password": (keys.p12(GOOD, "a"), None, "password right"),
    "no .p12": (b"\x30\x03abc", None, r"the file a \.p12"),
    "expired": (keys.p12(keys.certificate(days=-1), "b"), None, "expired on"),
    "no key": (keys.certificate_pem(GOOD), None, "holds no private key"),
    "no certificate": (P8, None, "no certificate"),
    "cut": (keys.certificate_pem(GOOD).replace("MII", "MI", 1), P8, "certificate cannot be read"),
    "another key": (
        keys.certificate_pem(GOOD),
        keys.pem(ec.generate_private_key(ec.SECP256R1())),
        "does not belong to the certificate",
    ),
}


@pytest.mark.parametrize(("data", "key", "words"), CANNOT_BE_USED.values(), ids=CANNOT_BE_USED)
def test_certificates_that_cannot_be_used(data: str | bytes, key: str | None, words: str) -> None:
    """Each is refused with its own reason."""
    with pytest.raises(BadCredential, match=words):
        check.apns_certificate(data, password="b", private_key=key)


def test_a_certificate_covers_its_topics_only() -> None:
    """A wrong topic or environment is refused when saved, not by every send."""
    checked = check.apns_certificate(keys.p12(keys.certificate(), "a"), password="a")

    with pytest.raises(BadCredential, match=r"does not cover the topic com\.other; it covers com\.example"):
        check.apns_place(checked, "com.other", None)
    with pytest.raises(BadCredential, match="is for production, not for sandbox"):
        check.apns_place(checked, None, "sandbox")


@pytest.mark.parametrize(
    ("topic", "environment"), [(None, "sandbox"), ("com.x y", "sandbox"), ("com.x", None)]
)
def test_a_key_needs_its_place(topic: str | None, environment: str | None) -> None:
    """A .p8 key says neither topic nor environment: both must be given."""
    with pytest.raises(BadCredential, match=r"bundle id|sandbox or production"):
        check.apns_place(token(P8), topic, environment)


@pytest.mark.parametrize("name", sorted(keys.service_account()))
def test_a_service_account_without_a_field_is_refused_by_name(name: str) -> None:
    """C42: client_email missing is known when saved, and so is every other field."""
    account = {key: value for key, value in keys.service_account().items() if key != name}

    with pytest.raises(BadCredential, match=f"lacks the field {name}"):
        check.fcm(json.dumps(account))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "authorized_user"}, "not a service account's"),
        ({"private_key": P8}, "not an RSA key"),
        ({"private_key": "broken"}, "private_key cannot be read"),
        ({"project_id": "../../x"}, "project_id"),
        ({"client_email": "nobody"}, "client_email"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri must begin with https"),
        ({"token_uri": "oauth2.googleapis.com"}, "token_uri must be a URL"),
    ],
)
def test_service_accounts_that_cannot_be_used(changes: dict[str, str], words: str) -> None:
    """Each is refused with the field's name."""
    with pytest.raises(BadCredential, match=words):
        check.fcm(keys.service_account(**changes))


def test_a_service_account_that_is_no_json_shows_nothing() -> None:
    """The file's text, which holds the key, is not in the error."""
    with pytest.raises(BadCredential, match="not JSON at line 1") as raised:
        check.fcm('{"private_key": "secret words",,}')

    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_token_endpoint_of_this_machine_may_be_plain() -> None:
    """The sandbox's token endpoint needs no certificate."""
    assert check.fcm(keys.service_account(token_uri="http://127.0.0.1:8080/token"))


@pytest.mark.parametrize(
    "subject",
    [
        "mailto:ops@localhost",
        "mailto: ops@x.example",
        "mailto:<ops@x.example>",
        "ops@x.example",
        "https://localhost",
        "mailto:a@b.local",
        "mailto:",
        "mailto:ops",
        "mailto:@x.example",
        "http://x.example",
        "https://127.0.0.1/",
        "https://",
        "https://[",
        "https://user@x.example",
        "mailto:ops@x.example\n",
        "",
    ],
)
def test_a_sloppy_contact_is_refused_naming_apple(subject: str) -> None:
    """C22: what Apple answers with BadJwtToken is refused when saved."""
    with pytest.raises(BadCredential, match=r"Apple refuses .* BadJwtToken"):
        check.webpush(subject=subject)


@pytest.mark.parametrize(
    "subject",
    ["mailto:ops@example.com", "mailto:a.b+c@mail.example.co.uk", "https://example.com/contact?x=1"],
)
def test_a_good_contact_is_kept_as_given(subject: str) -> None:
    """C22: mailto: and https: with a public domain pass unchanged."""
    assert check.webpush(subject=subject).secret["subject"] == subject


def test_a_vapid_key_is_made_or_taken() -> None:
    """None given: a new one each time. Given as number, PEM or DER: the same key."""
    made = check.webpush(subject="mailto:ops@example.com").secret
    number = base64.urlsafe_b64decode(made["private_key"] + "=")
    key = ec.derive_private_key(int.from_bytes(number, "big"), ec.SECP256R1())
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    forms = [made["private_key"], made["private_key"] + "=", keys.pem(key), base64.b64encode(der).decode()]

    assert check.webpush(subject="mailto:ops@example.com").secret["private_key"] != made["private_key"]
    for form in forms:
        assert check.webpush(subject="mailto:ops@example.com", private_key=form).secret == made
    assert len(base64.urlsafe_b64decode(made["public_key"] + "=")) == 65


def test_vapid_keys_that_cannot_be_used() -> None:
    """Wrong length, zero, another curve, a public key of somebody else."""
    other = check.webpush(subject="mailto:ops@example.com").secret["public_key"]
    p384 = keys.pem(ec.generate_private_key(ec.SECP384R1()))

    for key in ("AAAA", "A" * 43, "not base64!", p384):
        with pytest.raises(BadCredential, match="VAPID"):
            check.webpush(subject="mailto:ops@example.com", private_key=key)
    with pytest.raises(BadCredential, match="does not belong to the private key"):
        check.webpush(subject="mailto:ops@example.com", public_key=other)


def test_a_checked_secret_is_not_in_its_repr() -> None:
    """A repr in a log gives nothing away."""
    assert "BEGIN" not in repr(token(P8))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ca": "nonsense"}, "certificates in PEM"),
        ({"allow": ["10.0.0.0/33"]}, "networks"),
        ({"password": "x"}, "not password"),
    ],
)
def test_settings_hold_what_is_understood(settings: dict[str, object], words: str) -> None:
    """A typing mistake in settings is no silent no."""
    with pytest.raises(BadCredential, match=words):
        check.check_settings(settings)


@pytest.mark.parametrize(
    "url", ["https://h/path", "ftp://h", "http://example.com", "https://", "https://h:x"]
)
def test_an_endpoint_is_a_base_url(url: str) -> None:
    """Scheme, host and port alone; plain http on this machine only."""
    with pytest.raises(BadCredential, match="endpoint"):
        check.check_endpoint(url)
    assert check.check_endpoint("https://127.0.0.1:8443/") == "https://127.0.0.1:8443"
