"""Who may talk to whom: pinned certificates, kept certificates, api keys."""

import datetime
import ipaddress
import logging
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from quic_peers import LONG, Served

from flash_transport import (
    AuthenticationFailed,
    FlashTransportError,
    FlashTransportPolicy,
    QuicServer,
    UntrustedServer,
)


def test_the_pinned_server_is_trusted_however_the_pin_is_written():
    with Served() as served:
        pin = served.server.fingerprint
        assert len(pin) == 64
        colons = ":".join(pin[index : index + 2] for index in range(0, 64, 2)).upper()
        for written in (pin, colons, f"sha256:{pin}"):
            with FlashTransportPolicy(
                "127.0.0.1", served.port, server_fingerprint=written
            ) as policy:
                assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_another_server_than_the_pinned_one_is_refused_at_once():
    with Served() as served:
        pin = "0" * 64
        with pytest.raises(UntrustedServer) as raised:
            FlashTransportPolicy(
                "127.0.0.1", served.port, server_fingerprint=pin, connect_timeout=LONG
            )
        assert str(raised.value) == (
            f"certificate of 127.0.0.1:{served.port} has fingerprint {served.server.fingerprint}, "
            f"not the pinned {pin}; if the server's certificate was changed on purpose, "
            "pin the new one"
        )


def test_a_server_that_comes_back_with_another_certificate_is_refused():
    with Served() as served:
        policy = FlashTransportPolicy(
            "127.0.0.1", served.port, server_fingerprint=served.server.fingerprint
        )
    with Served(port=served.port):
        with pytest.raises(UntrustedServer):
            policy.infer({}, timeout=LONG)
        # and again, not only the first time
        with pytest.raises(UntrustedServer):
            policy.infer({}, timeout=LONG)
    policy.close()


def test_a_pin_that_is_none_is_refused():
    words = r"server_fingerprint must be the 64 hex digits .* got \"abc\""
    with pytest.raises(ValueError, match=words):
        FlashTransportPolicy(server_fingerprint="abc")


def test_a_new_server_is_remembered_and_trusted_from_then_on(tmp_path):
    known = tmp_path / "new" / "known_servers"
    with Served() as served:
        for _ in range(2):
            with FlashTransportPolicy("127.0.0.1", served.port, known_servers=known) as policy:
                assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
        line = f"127.0.0.1:{served.port} sha256:{served.server.fingerprint}\n"
    assert known.read_text() == line
    assert stat.S_IMODE(known.stat().st_mode) == 0o600


def test_a_known_server_with_another_certificate_is_refused_until_its_line_is_deleted(tmp_path):
    known = tmp_path / "known_servers"
    known.write_text("# servers of the lab\n")
    with Served() as served:
        port, former = served.port, served.server.fingerprint
        FlashTransportPolicy("127.0.0.1", port, known_servers=known).close()
    with Served(port=port) as served:
        with pytest.raises(UntrustedServer) as raised:
            FlashTransportPolicy("127.0.0.1", port, known_servers=known, connect_timeout=LONG)
        assert str(raised.value) == (
            f"certificate of 127.0.0.1:{port} has fingerprint {served.server.fingerprint}, but "
            f"line 2 of {known} knows it by {former}; an attacker may be impersonating the server. "
            "If its certificate was changed on purpose, delete that line and connect again"
        )
        assert served.server.counters["requests_accepted"] == 0
        known.write_text("# servers of the lab\n")
        with FlashTransportPolicy("127.0.0.1", port, known_servers=known) as policy:
            assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}
        assert served.server.fingerprint in known.read_text()


def test_a_server_that_changes_its_certificate_under_a_running_client_is_refused(tmp_path):
    known = tmp_path / "known_servers"
    with Served() as served:
        policy = FlashTransportPolicy("127.0.0.1", served.port, known_servers=known)
    with Served(port=served.port), pytest.raises(UntrustedServer, match="line 1 of"):
        policy.infer({}, timeout=LONG)
    policy.close()


def test_a_file_of_known_servers_that_cannot_be_read_trusts_nobody(tmp_path):
    known = tmp_path / "known_servers"
    known.write_text("gpu 5555\n")
    with Served() as served:
        with pytest.raises(UntrustedServer, match=f"line 1 of {known} must be"):
            FlashTransportPolicy("127.0.0.1", served.port, known_servers=known)
        with pytest.raises(UntrustedServer, match=f"cannot read .* {tmp_path}:"):
            FlashTransportPolicy("127.0.0.1", served.port, known_servers=tmp_path)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority, as a function that signs a certificate for a host."""
    directory = tmp_path_factory.mktemp("authority")
    return Authority(directory)


class Authority:
    """Signs certificates; `file` is what clients are given."""

    def __init__(self, directory):
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the lab")])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        certificate = self._build(self._name, self._key.public_key(), ca)
        self.file = directory / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def sign(self, host, *, days=1):
        """Arguments of a server that has a certificate for `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        extension = x509.SubjectAlternativeName([alternative])
        certificate = self._build(name, key.public_key(), extension, days)
        number = len(list(self._directory.iterdir()))
        certificate_file = self._directory / f"{number}.pem"
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file = self._directory / f"{number}.key"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return {"tls_certificate": certificate_file, "tls_key": key_file}

    def _build(self, subject, public_key, extension, days=1):
        now = datetime.datetime.now(datetime.timezone.utc)
        lifetime = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 10 * lifetime)
            .not_valid_after(now + days * lifetime)
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_with_a_certificate_of_the_authority_for_its_host_is_trusted(authority, host):
    with (
        Served(**authority.sign(host)) as served,
        FlashTransportPolicy(host, served.port, ca_file=authority.file) as policy,
    ):
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_a_certificate_of_the_authority_for_another_host_is_refused(authority):
    with Served(**authority.sign("gpu.lab")) as served:
        with pytest.raises(UntrustedServer) as raised:
            FlashTransportPolicy("127.0.0.1", served.port, ca_file=str(authority.file))
        assert str(raised.value) == (
            f"certificate of 127.0.0.1:{served.port} is not accepted by the authorities of "
            f"{authority.file}: it is for another host; connect by a name or address that the "
            "certificate lists"
        )


def test_an_expired_certificate_is_refused(authority):
    with (
        Served(**authority.sign("127.0.0.1", days=-1)) as served,
        pytest.raises(UntrustedServer, match="it has expired"),
    ):
        FlashTransportPolicy("127.0.0.1", served.port, ca_file=authority.file)


def test_a_certificate_that_the_authority_has_not_signed_is_refused(authority):
    with (
        Served() as served,
        pytest.raises(UntrustedServer, match="not accepted by the authorities of"),
    ):
        FlashTransportPolicy("127.0.0.1", served.port, ca_file=authority.file)


def test_a_certificate_that_somebody_brings_can_be_pinned_and_remembered(authority, tmp_path):
    with Served(**authority.sign("gpu.lab")) as served:
        for trust in (
            {"server_fingerprint": served.server.fingerprint},
            {"known_servers": tmp_path / "known_servers"},
        ):
            FlashTransportPolicy("127.0.0.1", served.port, **trust).close()


def test_trust_is_asked_for_in_one_way(authority, tmp_path):
    with pytest.raises(ValueError, match="give one of server_fingerprint, ca_file and known"):
        FlashTransportPolicy(ca_file=authority.file, known_servers=tmp_path / "known")
    with pytest.raises(ValueError, match=r"ca_file .*ca\.pem holds no certificates"):
        FlashTransportPolicy(ca_file=tmp_path / "ca.pem")
    with pytest.raises(ValueError, match="tls_certificate and tls_key together"):
        QuicServer("127.0.0.1", 0, metadata={}, tls_certificate=authority.file)


def test_a_kept_certificate_survives_a_restart(tmp_path):
    directory = tmp_path / "new" / "certificates"
    fingerprints = set()
    for _ in range(2):
        with QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=directory) as server:
            fingerprints.add(server.fingerprint)
    assert len(fingerprints) == 1
    (kept,) = directory.iterdir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_servers_of_one_directory_have_one_certificate(tmp_path):
    with (
        QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=str(tmp_path)) as one,
        QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=str(tmp_path)) as other,
    ):
        assert one.fingerprint == other.fingerprint


def test_without_a_directory_each_server_has_its_own_certificate():
    with (
        QuicServer("127.0.0.1", 0, metadata={}) as one,
        QuicServer("127.0.0.1", 0, metadata={}) as other,
    ):
        assert one.fingerprint != other.fingerprint


def test_a_broken_certificate_is_named_and_not_replaced(tmp_path):
    QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=tmp_path).close()
    (kept,) = tmp_path.iterdir()
    kept.write_text("broken")
    with pytest.raises(FlashTransportError, match=f"{kept.name} is no PEM file"):
        QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=tmp_path)
    assert kept.read_text() == "broken"


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"{tmp_path}/file"):
        QuicServer("127.0.0.1", 0, metadata={}, certificate_dir=tmp_path / "file" / "inside")


def test_a_known_api_key_comes_in():
    with Served(api_keys=["one", "two"]) as served:
        for key in ("one", "two"):
            with FlashTransportPolicy("127.0.0.1", served.port, api_key=key) as policy:
                assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "this server wants an api key"),
        ("wrong", "this api key is not known here"),
        ("", "this server wants an api key"),
        ("righ", "this api key is not known here"),
    ],
)
def test_another_api_key_stays_outside(key, reason):
    with Served(api_keys=["right"]) as served:
        with (
            pytest.raises(AuthenticationFailed) as raised,
            FlashTransportPolicy("127.0.0.1", served.port, api_key=key) as policy,
        ):
            policy.infer({}, timeout=LONG)
        assert str(raised.value) == f"127.0.0.1:{served.port} refused the api key: {reason}"
        assert served.server.counters["clients_unauthenticated"] >= 1
        assert served.server.counters["requests_accepted"] == 0


def test_an_api_key_is_harmless_where_none_is_wanted():
    with (
        Served() as served,
        FlashTransportPolicy("127.0.0.1", served.port, api_key="any") as policy,
    ):
        assert policy.infer({"x": 1}, timeout=LONG)["echo"] == {"x": 1}


def test_an_empty_api_key_in_the_servers_list_is_a_mistake():
    with pytest.raises(ValueError, match="api_keys holds an empty key"):
        QuicServer("127.0.0.1", 0, metadata={}, api_keys=["good", ""])


def test_a_key_too_long_for_the_wire_is_refused_before_it_leaves():
    with Served() as served, pytest.raises(ValueError, match="api_key has 2000 characters"):
        FlashTransportPolicy("127.0.0.1", served.port, api_key="k" * 2000)


def test_small_socket_buffers_are_no_secret(caplog):
    largest = int(Path("/proc/sys/net/core/rmem_max").read_text())
    granted = 2 * min(largest, 8 << 20)
    with caplog.at_level(logging.WARNING, "flash_transport"):
        QuicServer("127.0.0.1", 0, metadata={}).close()
    warned = any("net.core.rmem_max" in record.message for record in caplog.records)
    assert warned == (granted < 2 << 20)
