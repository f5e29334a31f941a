"""infra/kubernetes: the manifests agree with the server that they start, and with each other."""

import json
import re
from pathlib import Path

import pytest
import yaml

from openpi_flash_server.admin.metrics import Metrics
from openpi_flash_server.config.file import parse_config
from openpi_flash_server.serving.service import DRAIN_GRACE

HERE = Path(__file__).parent.parent / "infra" / "kubernetes"
FOLDERS = sorted(path.parent for path in HERE.glob("*/kustomization.yaml"))


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def manifests():
    """Every object that kustomize would make, by kind and name, without patches."""
    found = {}
    for folder in FOLDERS:
        listed = yaml.safe_load((folder / "kustomization.yaml").read_text()).get("resources", [])
        for name in listed:
            for one in documents(folder / name):
                found[one["kind"], one["metadata"]["name"]] = one
    return found


DEPLOYMENT = manifests()["Deployment", "openpi-flash"]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(SERVER,) = POD["containers"]


@pytest.fixture
def config(tmp_path):
    """The configuration, with its secrets in a folder of this machine."""
    values = json.loads((HERE / "base" / "config.json").read_text())
    keys = tmp_path / "api_keys"
    keys.write_text("a-key\n")
    values["api_key_file"] = str(keys)
    environment = {"OPENPI_ADMIN__API_KEY": "of-the-operator"}
    return parse_config(json.dumps(values), environment, source="config.json")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_file_is_listed_and_every_listed_file_is_there(folder):
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = set(kustomization.get("resources", []))
    listed |= {patch["path"] for patch in kustomization.get("patches", [])}
    for generator in kustomization.get("configMapGenerator", []):
        listed |= set(generator["files"])
    assert listed | {"kustomization.yaml"} == {path.name for path in folder.iterdir()}


def test_ports_are_those_of_the_configuration(config):
    ports = {one["name"]: (one["containerPort"], one["protocol"]) for one in SERVER["ports"]}
    assert ports == {
        "websocket": (config.action_transport.websocket_port, "TCP"),
        "quic": (config.action_transport.quic_port, "UDP"),
        "admin": (config.admin.port, "TCP"),
    }
    for service in ("openpi-flash", "openpi-flash-admin"):
        for port in manifests()["Service", service]["spec"]["ports"]:
            assert (port["port"], port["protocol"]) == ports[port["targetPort"]]


def test_robots_do_not_reach_the_operators_port():
    public = manifests()["Service", "openpi-flash"]["spec"]
    assert {one["name"] for one in public["ports"]} == {"websocket", "quic"}


def test_a_pod_has_longer_to_end_than_the_server_needs():
    (_, pause) = SERVER["lifecycle"]["preStop"]["exec"]["command"]
    # what it takes to close ports and processes
    assert POD["terminationGracePeriodSeconds"] >= float(pause) + DRAIN_GRACE + 10


def test_every_mounted_file_of_the_configuration_is_mounted():
    values = json.loads((HERE / "base" / "config.json").read_text())
    mounts = [mount["mountPath"] for mount in SERVER["volumeMounts"]]
    (variable,) = [one for one in SERVER["env"] if one["name"] == "INFERENCE_CONFIG_PATH"]
    files = [values["tls_certificate"], values["tls_key"], values["api_key_file"]]
    for file in (*files, variable["value"]):
        assert str(Path(file).parent) in mounts
    names = {volume["name"] for volume in POD["volumes"]}
    assert {mount["name"] for mount in SERVER["volumeMounts"]} == names


def test_the_configuration_is_closed_to_strangers(config):
    assert config.keys
    assert not config.expose_tracebacks
    assert any(one["name"] == "OPENPI_ADMIN__API_KEY" for one in SERVER["env"])


def test_the_autoscaler_asks_for_metrics_that_the_server_has():
    registry = Metrics({"server": "0"}).registry
    known = {
        name
        for family in registry.collect()
        for name in (family.name, f"{family.name}_total" if family.type == "counter" else "")
    }
    triggers = manifests()["ScaledObject", "openpi-flash"]["spec"]["triggers"]
    queries = " ".join(trigger["metadata"]["query"] for trigger in triggers)
    asked = set(re.findall(r"openpi_flash_\w+", queries))
    assert len(asked) == len(triggers) == 2
    assert asked <= known


def test_what_selects_and_what_is_selected_agree():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    budget = manifests()["PodDisruptionBudget", "openpi-flash"]["spec"]["selector"]["matchLabels"]
    services = [manifests()["Service", f"openpi-flash{end}"]["spec"] for end in ("", "-admin")]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels == budget
    assert [service["selector"] for service in services] == [labels, labels]
    monitor = manifests()["ServiceMonitor", "openpi-flash"]["spec"]
    admin = manifests()["Service", "openpi-flash-admin"]
    assert monitor["selector"]["matchLabels"].items() <= admin["metadata"]["labels"].items()
    assert [one["port"] for one in monitor["endpoints"]] == [
        port["name"] for port in admin["spec"]["ports"]
    ]
    target = manifests()["ScaledObject", "openpi-flash"]["spec"]["scaleTargetRef"]["name"]
    assert target == DEPLOYMENT["metadata"]["name"]


def test_the_patch_for_replicas_gives_a_gpu_to_each():
    (patch,) = documents(HERE / "replicas" / "server_patch.yaml")
    assert patch["metadata"]["name"] == DEPLOYMENT["metadata"]["name"]
    (server,) = patch["spec"]["template"]["spec"]["containers"]
    assert server["name"] == SERVER["name"]
    (variable,) = server["env"]
    config = parse_config(
        '{"action": {"model_config_name": "null"}}',
        {variable["name"]: variable["value"]},
        source="config.json",
    )
    assert config.action.replicas == server["resources"]["limits"]["nvidia.com/gpu"]
