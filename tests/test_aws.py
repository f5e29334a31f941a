"""What a server on AWS starts with, rendered by the real Terraform, and who may reach it."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from openpi_flash_server.config.file import parse_config

INFRA = Path(__file__).parent.parent / "infra"
BOOT = INFRA / "aws/server/boot"
IMAGE = "1.dkr.ecr.eu-west-1.amazonaws.com/openpi-flash-server:0.1.0"

needs_terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="terraform is not installed"
)


def terraform(folder, *arguments):
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments],
        env=os.environ | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def render(tmp_path):
    """Apply the module, which has no resources, and return its outputs."""
    shutil.copytree(BOOT, tmp_path / "boot", ignore=shutil.ignore_patterns(".terraform*"))
    folder = tmp_path / "boot"

    def outputs(**variables):
        variables = {"image": IMAGE, "region": "eu-west-1", "api_keys_parameter": "/a/keys"} | (
            variables
        )
        (folder / "terraform.tfvars.json").write_text(json.dumps(variables))
        initialised = terraform(folder, "init", "-input=false", "-no-color")
        assert initialised.returncode == 0, initialised.stderr
        applied = terraform(folder, "apply", "-auto-approve", "-input=false", "-no-color")
        if applied.returncode != 0:
            return applied.stderr
        printed = terraform(folder, "output", "-json").stdout
        return {name: output["value"] for name, output in json.loads(printed).items()}

    return outputs


def parse(config, folder):
    """The configuration as the server reads it, with the secrets in `folder`."""
    for name in ("api_keys", "certificate.pem", "key.pem"):
        (folder / name).write_text("a-key-of-a-robot\n")
        (folder / name).chmod(0o600)
    return parse_config(config.replace("/run/secrets", str(folder)), {}, source="config.json")


def files_of(user_data):
    assert user_data.startswith("#cloud-config\n")
    return {file["path"]: file["content"] for file in yaml.safe_load(user_data)["write_files"]}


def is_bash(text):
    return subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


@needs_terraform
def test_a_machine_gets_a_configuration_that_the_server_reads(render, tmp_path):
    rendered = render(checkpoint_dir="gs://openpi-assets/checkpoints/pi05_droid")
    files = files_of(rendered["user_data"])
    config = files["/etc/openpi-flash/config.json"]
    assert config == rendered["config"]
    parsed = parse(config, tmp_path)
    assert parsed.action.checkpoint_dir == "gs://openpi-assets/checkpoints/pi05_droid"
    assert '"api_key_file":"/run/secrets/api_keys"' in config
    assert parsed.keys == ("a-key-of-a-robot",)
    assert parsed.planner is None
    assert parsed.action_transport.quic_server_id is None
    assert "prepare-checkpoint" not in files["/usr/local/bin/openpi-flash-prepare"]


@needs_terraform
def test_everything_that_can_be_asked_for_arrives(render, tmp_path):
    rendered = render(
        prepare_planner_checkpoint=True,
        default_prompt='fold "it"',
        certificate_parameter="/a/certificate",
        certificate_key_parameter="/a/key",
        has_certificate=True,
        server_id="0x1a2b3c4d5e6f7081",
        log_group="/openpi-flash/a",
    )
    files = files_of(rendered["user_data"])
    parsed = parse(files["/etc/openpi-flash/config.json"], tmp_path)
    assert parsed.action.model_config_name == "pi05_aloha"
    assert parsed.action.default_prompt == 'fold "it"'
    assert parsed.action_transport.quic_server_id == "0x1a2b3c4d5e6f7081"
    assert parsed.planner.checkpoint_dir == "/data/models/planner"
    assert parsed.tls_certificate == str(tmp_path / "certificate.pem")
    prepare = files["/usr/local/bin/openpi-flash-prepare"]
    assert f"{IMAGE} prepare-checkpoint --output-dir /data/models/action\n" in prepare
    assert f"{IMAGE} prepare-planner-checkpoint --output-dir /data/models/planner\n" in prepare
    assert "get-login-password --region eu-west-1 |" in prepare
    secrets = files["/usr/local/bin/openpi-flash-secrets"]
    for line in ("api_keys /a/keys", "certificate.pem /a/certificate", "key.pem /a/key"):
        assert f"fetch {line}\n" in secrets
    assert is_bash(prepare)
    assert is_bash(secrets)
    unit = files["/etc/systemd/system/openpi-flash.service"]
    assert "--log-opt awslogs-group=/openpi-flash/a " in unit
    for option in ("--cap-drop ALL", "--read-only", "no-new-privileges", "/run/secrets:ro"):
        assert option in unit
    assert "\n\n\n" not in unit


@needs_terraform
def test_no_secret_is_in_what_a_machine_starts_with(render):
    assert "PRIVATE KEY" not in render()["user_data"]


@needs_terraform
@pytest.mark.parametrize("image", ["a/openpi-flash-server", "a/openpi-flash-server:latest"])
def test_an_image_without_a_version_is_refused(render, image):
    assert "must name a version or a digest" in render(image=image)


@needs_terraform
def test_all_files_are_formatted():
    result = terraform(INFRA, "fmt", "-check", "-recursive")
    assert result.returncode == 0, result.stdout


def test_the_servers_are_closed_to_everybody_who_is_not_named():
    text = "".join(path.read_text() for path in sorted(INFRA.glob("aws/server/*.tf")))
    rules = re.findall(r'resource "aws_vpc_security_group_ingress_rule".*?\n}\n', text, re.DOTALL)
    assert len(rules) == 3
    assert not [rule for rule in rules if "0.0.0.0/0" in rule or "::/0" in rule]
    assert 'variable "robot_addresses"' in text
    assert "default     = []" in text
    assert "from_port                    = 22" not in text


def test_the_module_and_the_machine_have_the_same_settings():
    names = [
        set(re.findall(r'^variable "(\w+)"', (folder / "variables.tf").read_text(), re.MULTILINE))
        for folder in (BOOT.parent, BOOT)
    ]
    assert names[1] - names[0] == {"has_certificate", "server_id", "log_group", "region"} - names[0]
