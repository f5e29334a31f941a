"""`openpi-flash doctor`: each check on made-up machines, and the command on this one."""

import dataclasses
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from openpi_flash_server.cli import app
from openpi_flash_server.doctor import checks, read_machine
from openpi_flash_server.doctor.certificate_dates import fingerprint, first_certificate, not_after
from openpi_flash_server.doctor.finding import Level, as_json, as_lines
from openpi_flash_server.doctor.machine import (
    Certificate,
    CheckpointNote,
    Deployment,
    Folder,
    Gpu,
    Machine,
    Port,
    SecretFile,
)
from openpi_flash_server.doctor.read_deployment import read_deployment

NOW = 1_800_000_000.0
H200 = Gpu("NVIDIA H200", "580.95.05", 143_771, 4)
GOOD = Machine(
    system="Debian, Linux 6.1, x86_64",
    user=10001,
    python="3.12.3",
    versions={
        "openpi_flash_server": "0.1.0",
        "openpi_flash_models": "0.1.0",
        "flash_transport": "0.1.0",
        "jax": "0.10.2",
        "jax-cuda13-plugin": "0.10.2",
        "jax-cuda12-plugin": None,
        "torch": None,
    },
    has_compiled_transport=True,
    gpus=(H200,),
    gpu_problem="",
    memory_gb=(128.0, 100.0),
    kernel={"net.core.rmem_max": 8_388_608, "net.core.wmem_max": 8_388_608},
    udp_receive_errors=0,
    open_files=65_536,
    clock="synchronized",
    now=NOW,
)
SERVING = Deployment(
    path="config.json",
    mode="action_only",
    listens_beyond_loopback=True,
    keys=2,
    frameworks=frozenset({"jax"}),
    ports=(Port("action QUIC", "udp", "0.0.0.0", 5555),),
    certificate=Certificate("/state/flash_transport.pem", False, "43716f", NOW + 400 * 86_400),
    secrets=(SecretFile("api_key_file", "/etc/keys", 0o640),),
    folders=(Folder("certificate", "/state", 100.0, is_writable=True),),
    checkpoints=(CheckpointNote("action", "note", "pi0.5, 3.4 billion parameters"),),
)


def machine(**changes):
    return dataclasses.replace(GOOD, **changes)


def deployment(**changes):
    return dataclasses.replace(SERVING, **changes)


def not_ok(machine=GOOD, deployment=SERVING):
    found = checks.examine(machine, deployment)
    return [(f.subject, f.level.value, f.text) for f in found if f.level is not Level.OK]


def test_a_good_machine_has_nothing_to_do():
    assert not_ok() == []


def versions(**changes):
    names = {
        name.replace("_plugin", "-plugin").replace("jax_", "jax-"): v for name, v in changes.items()
    }
    return {**GOOD.versions, **names}


@pytest.mark.parametrize(
    ("bad", "subject", "level", "text"),
    [
        ({"user": 0}, "system", "warn", "as root"),
        ({"versions": versions(flash_transport=None)}, "package", "fail", "flash_transport is mis"),
        ({"versions": versions(flash_transport="0.0.9")}, "package", "warn", "0.0.9, 0.1.0"),
        ({"has_compiled_transport": False}, "transport", "fail", "no QUIC"),
        ({"gpus": (), "gpu_problem": "there is no nvidia-smi"}, "gpu", "warn", "no nvidia-smi"),
        ({"gpus": (H200, H200)}, "gpu", "warn", "2 GPUs"),
        (
            {"gpus": (dataclasses.replace(H200, driver="570.86.15"),)},
            "gpu",
            "fail",
            "jax-cuda13-plugin needs driver 580, this is 570",
        ),
        ({"versions": versions(jax_cuda13_plugin=None)}, "gpu", "fail", "JAX has no CUDA"),
        (
            {"gpus": (dataclasses.replace(H200, used_mib=140_000),)},
            "memory",
            "warn",
            "NVIDIA H200: 3.7 GiB free",
        ),
        ({"memory_gb": (16.0, 2.0)}, "memory", "warn", "2 of 16 GB"),
        ({"kernel": {}}, "buffers", "warn", "net.core.rmem_max cannot be read"),
        (
            {"kernel": {**GOOD.kernel, "net.core.rmem_max": 212_992}},
            "buffers",
            "warn",
            "net.core.rmem_max is 212992, wanted 8388608",
        ),
        ({"udp_receive_errors": 7}, "buffers", "warn", "7 datagrams were dropped"),
        ({"open_files": 1024}, "limits", "warn", "1024 open files"),
        ({"clock": "not synchronized"}, "clock", "warn", "not synchronized"),
        ({"now": 0.0}, "clock", "fail", "years behind"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said_with_what_to_do(bad, subject, level, text):
    found = [f for f in checks.examine(machine(**bad), SERVING) if f.level is not Level.OK]
    assert found, "nothing was found"
    assert any((f.subject, f.level) == (subject, level) and text in f.text for f in found), found
    assert all(f.remedy for f in found)


@pytest.mark.parametrize(
    ("bad", "subject", "level", "text"),
    [
        ({"problems": ("action: unknown key",)}, "config", "fail", "action: unknown key"),
        ({"path": ""}, "config", "warn", "none was named"),
        ({"misspelt": {"OPENPI_HOSST": "OPENPI_HOST"}}, "config", "warn", "OPENPI_HOSST sets"),
        (
            {"ports": (Port("action QUIC", "udp", "0.0.0.0", 5555, "address already in use"),)},
            "ports",
            "fail",
            "5555/udp: address already in use",
        ),
        ({"keys": 0}, "keys", "warn", "other computers can reach"),
        (
            {"secrets": (SecretFile("api_key_file", "/etc/keys", 0o644),)},
            "keys",
            "warn",
            "/etc/keys can be read by everybody (0644)",
        ),
        (
            {"certificate": Certificate("/c.pem", True, problem="no such file")},
            "certificate",
            "fail",
            "/c.pem: no such file",
        ),
        (
            {"certificate": Certificate("/c.pem", True, "ab", NOW - 86_400 * 3)},
            "certificate",
            "fail",
            "expired 3 days ago",
        ),
        (
            {"certificate": Certificate("/c.pem", True, "ab", NOW + 86_400 * 3)},
            "certificate",
            "warn",
            "expires in 3 days",
        ),
        ({"folders": (Folder("certificate", "/state", 90.0, False),)}, "disk", "fail", "not writ"),
        ({"folders": (Folder("downloads", "/d", 2.0, True),)}, "disk", "warn", "2 GB free"),
        (
            {"checkpoints": (CheckpointNote("action", "error", "no such dir"),)},
            "checkpoint",
            "fail",
            "action: no such dir",
        ),
        (
            {"checkpoints": (CheckpointNote("action", "warning", "odd"),)},
            "checkpoint",
            "warn",
            "action: odd",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said_with_what_to_do(bad, subject, level, text):
    found = [f for f in checks.examine(GOOD, deployment(**bad)) if f.level is not Level.OK]
    assert [(f.subject, f.level) for f in found] == [(subject, level)]
    assert text in found[0].text
    assert found[0].remedy


def test_ports_of_a_server_that_runs_are_its_own():
    taken = Port("action QUIC", "udp", "0.0.0.0", 5555, "address already in use")
    assert not_ok(deployment=deployment(ports=(taken,), running="OK")) == []
    # and the memory that it holds is no reason to worry
    full = machine(gpus=(dataclasses.replace(H200, used_mib=140_000),))
    assert not_ok(full, deployment(running="OK")) == []


def test_loopback_needs_no_keys():
    assert not_ok(deployment=deployment(keys=0, listens_beyond_loopback=False)) == []


def test_the_report_counts_and_names_the_worst():
    found = checks.examine(machine(open_files=64), deployment(keys=0, problems=("x: y",)))
    lines = as_lines(found)
    assert lines[-1].endswith(" ok, 2 warn, 1 fail")
    at = lines.index("fail  config       x: y")
    assert lines[at + 1].split() == [
        "->",
        *["openpi-flash", "config", "check", "FILE,", "until", "it", "is", "ok"],
    ]
    assert as_json(found)["level"] == "fail"
    assert as_json([])["level"] == "ok"


# reading this machine


def test_nvidia_smis_table_is_read():
    table = "NVIDIA H200, 580.95.05, 143771, 4\nNVIDIA GB10, 580.95.05, [N/A], [N/A]\n"
    assert read_machine.read_gpus(table) == (H200, Gpu("NVIDIA GB10", "580.95.05", 0, 0))


def test_dropped_datagrams_are_read_by_their_name():
    snmp = "Tcp: A B\nTcp: 1 2\nUdp: InDatagrams RcvbufErrors\nUdp: 5 40\nUdpLite: X\nUdpLite: 1\n"
    assert read_machine.read_udp_errors(snmp) == 40
    assert read_machine.read_udp_errors("") is None


def write_certificate(path, seconds):
    """A certificate that expires in some seconds, made by the peer that the tests have."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gpu.lab")])
    end = datetime.datetime.fromtimestamp(int(time.time() + seconds), datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(end - datetime.timedelta(days=800))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


@pytest.mark.parametrize("years", [-1, 1, 40])
def test_a_certificates_end_and_fingerprint_are_read(tmp_path, years):
    from cryptography.hazmat.primitives import hashes

    made = write_certificate(tmp_path / "c.pem", years * 365 * 86_400)
    der = first_certificate((tmp_path / "c.pem").read_text())
    assert not_after(der) == made.not_valid_after_utc.timestamp()
    assert fingerprint(der) == made.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x82\xff\xff", b"\x30\x02\x30\x00", bytes(40)])
def test_what_is_no_certificate_is_refused(der):
    with pytest.raises(ValueError, match="certificate"):
        not_after(der)


def write_config(tmp_path, **values):
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "action": {"model_config_name": "null"},
                "host": "127.0.0.1",
                "state_dir": str(tmp_path / "state"),
                "admin": {"enabled": False},
                **values,
            }
        )
    )
    return path


def test_a_taken_port_is_named(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        number = taken.getsockname()[1]
        ports = {"websocket_port": 0, "quic_port": number}
        found = read_deployment(write_config(tmp_path, action_transport=ports), {})
    problems = {(port.name, port.problem) for port in found.ports}
    assert problems == {("action WebSocket", ""), ("action QUIC", "address already in use")}


class NotReady(BaseHTTPRequestHandler):
    """An admin port of a server that loads."""

    def do_GET(self):
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b"action: loading\n")

    def log_message(self, *arguments):
        pass


def test_a_server_that_runs_is_asked_what_it_says(tmp_path):
    with HTTPServer(("127.0.0.1", 0), NotReady) as admin:
        threading.Thread(target=admin.handle_request, daemon=True).start()
        path = write_config(tmp_path, admin={"port": admin.server_port})
        assert read_deployment(path, {}).running == "action: loading"


def test_a_configuration_with_problems_is_a_finding(tmp_path):
    found = read_deployment(write_config(tmp_path, hosst="x"), {})
    assert len(found.problems) == 1
    assert found.problems[0].startswith("hosst: unknown key")


# the command


def run(*arguments, **environment):
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], env=environment)


def test_no_key_is_shown_wherever_it_comes_from(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("key-of-the-file\n")
    keys.chmod(0o644)
    path = write_config(
        tmp_path,
        api_keys=["key-of-the-list"],
        api_key_file=str(keys),
        admin={"host": "127.0.0.1", "port": 0, "api_key": "key-of-the-admin"},
    )
    for options in ((), ("--json",)):
        result = run("--config", path, *options, OPENPI_API_KEY="key-of-the-environment")
        assert "can be read by everybody (0644)" in result.output
        assert "key-of" not in result.output
    assert "key-of" not in run("--config", write_config(tmp_path, api_keys="key-of-x")).output


def test_the_command_says_what_serve_would_do_with_this_file(tmp_path):
    path = write_config(tmp_path, action_transport={"websocket_port": 0, "quic_port": 0})
    result = run("--config", path)
    assert "ok    config" in result.output
    assert f"made at the first start, in {tmp_path}/state" in result.output
    as_object = json.loads(run("--config", path, "--json").output)
    assert {finding["subject"] for finding in as_object["findings"]} >= {"system", "gpu", "ports"}


def test_the_exit_code_is_1_only_if_something_fails(tmp_path):
    assert run("--config", write_config(tmp_path, hosst="x")).exit_code == 1
    ports = {"websocket_port": 0, "quic_port": 0}
    assert run("--config", write_config(tmp_path, action_transport=ports)).exit_code == 0
