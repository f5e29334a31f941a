"""Who may talk to whom: pinned certificates, kept certificates, api keys."""

import logging
import stat
from pathlib import Path

import pytest
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
    with pytest.raises(ValueError, match=r"fingerprint must be the 64 hex digits .* got \"abc\""):
        FlashTransportPolicy(server_fingerprint="abc")


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
        ("", "this api key is not known here"),
        ("righ", "this api key is not known here"),
    ],
)
def test_another_api_key_stays_outside(key, reason):
    with Served(api_keys=["right"]) as served:
        with pytest.raises(AuthenticationFailed) as raised:
            FlashTransportPolicy("127.0.0.1", served.port, api_key=key, connect_timeout=LONG)
        assert str(raised.value) == f"127.0.0.1:{served.port} refused the api key: {reason}"
        assert served.server.counters["clients_unauthenticated"] == 1
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
    with Served() as served, pytest.raises(ValueError, match='"api_key" of 2000 bytes'):
        FlashTransportPolicy("127.0.0.1", served.port, api_key="k" * 2000)


def test_small_socket_buffers_are_no_secret(caplog):
    largest = int(Path("/proc/sys/net/core/rmem_max").read_text())
    granted = 2 * min(largest, 8 << 20)
    with caplog.at_level(logging.WARNING, "flash_transport"):
        QuicServer("127.0.0.1", 0, metadata={}).close()
    warned = any("net.core.rmem_max" in record.message for record in caplog.records)
    assert warned == (granted < 2 << 20)
