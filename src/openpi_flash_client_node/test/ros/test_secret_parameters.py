"""secret_parameters.py: what the graph can read of a key, asked as other nodes ask."""

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterEvent, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.publisher import Publisher

from flash_transport import QuicServer
from openpi_flash_client_node.ros.secret_parameters import is_secret
from openpi_flash_msgs.msg import PolicyStatus

KEY = "k3y-of-the-robot"


class Graph:
    """Everything that this process publishes, and what the node's services answer."""

    def __init__(self, robot, monkeypatch):
        self.robot = robot
        self.published = []
        publish = Publisher.publish

        def publish_and_keep(publisher, message):
            self.published.append(message)
            publish(publisher, message)

        monkeypatch.setattr(Publisher, "publish", publish_and_keep)

    def of(self, kind):
        return [message for message in self.published if isinstance(message, kind)]

    def values(self):
        """What the services answer about every parameter, as `ros2 param dump` asks."""
        names = self.robot.call(ListParameters, "list_parameters").result.names
        described = self.robot.call(DescribeParameters, "describe_parameters", names=names)
        self.described = {entry.name: entry for entry in described.descriptors}
        values = {}
        for name in names:  # one by one: rclpy answers nothing where one of them has no value
            answer = self.robot.call(GetParameters, "get_parameters", names=[name])
            values |= dict.fromkeys([name][: len(answer.values)], answer.values[:1])
        return {name: value for name, (value,) in values.items()}

    def shows(self, secret):
        """Whether anything that was published or answered holds the secret."""
        everything = (self.published, self.values(), self.described)
        return secret in repr(everything)


@pytest.fixture
def graph(robot, monkeypatch):
    return Graph(robot, monkeypatch)


@pytest.fixture
def server_with_key():
    with QuicServer("127.0.0.1", 0, metadata={}, api_keys=[KEY]) as server:
        yield server


def test_a_key_is_used_and_the_graph_reads_only_that_it_is_set(
    robot, graph, server_with_key, make_node, capfd
):
    make_node(port=server_with_key.port, api_key=KEY)
    robot.until_state(PolicyStatus.FAULT, "set the parameter action_rate_hz")  # so it was let in
    robot.ros.until(lambda: graph.of(DiagnosticArray), "diagnostics")
    names = {
        parameter.name
        for event in graph.of(ParameterEvent)
        for parameter in (*event.new_parameters, *event.changed_parameters)
    }
    assert "api_key" in names, "rclpy publishes what it declares"
    log = capfd.readouterr().err
    assert "parameter api_key is set: other users" in log
    assert KEY not in log
    value = graph.values()["api_key"]
    assert (value.type, value.string_value) == (ParameterType.PARAMETER_STRING, "set")
    assert not graph.shows(KEY)


def test_without_a_key_it_reads_not_set(graph, make_node):
    make_node()
    assert graph.values()["api_key"].string_value == "not set"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    return path


def test_a_key_in_a_file_is_in_no_parameter(robot, graph, server_with_key, make_node, key_file):
    make_node(port=server_with_key.port, api_key_file=str(key_file))
    robot.until_state(PolicyStatus.FAULT, "set the parameter action_rate_hz")
    assert graph.values()["api_key"].string_value == "not set"
    assert not graph.shows(KEY)


def test_a_key_in_the_environment_is_in_no_parameter(
    robot, graph, server_with_key, make_node, monkeypatch
):
    monkeypatch.setenv("OPENPI_FLASH_API_KEY", KEY)
    make_node(port=server_with_key.port)
    robot.until_state(PolicyStatus.FAULT, "set the parameter action_rate_hz")
    assert graph.values()["api_key"].string_value == "not set"
    assert not graph.shows(KEY)


def test_a_wrong_key_is_a_fault_that_says_where_to_write_the_right_one(
    robot, graph, server_with_key, make_node
):
    make_node(port=server_with_key.port, api_key="another-key")
    robot.until_state(PolicyStatus.FAULT, "api_key_file")
    assert not graph.shows("another-key")


@pytest.mark.parametrize("transport", ["quic", "websocket"])
@pytest.mark.parametrize(
    "key", [f"{KEY}\n{KEY}", f"{KEY}\0", f"{KEY}ä", f" {KEY}", 31415926535, [KEY]], ids=repr
)
def test_what_is_no_key_is_refused_at_configure_and_shown_nowhere(
    capfd, graph, make_node, transport, key
):
    node = make_node(bring_up=False, transport=transport, api_key=key)
    assert not node.bring_up()
    log = capfd.readouterr().err
    assert "parameter api_key" in log
    for secret in (KEY, "31415926535"):
        assert secret not in log
        assert not graph.shows(secret)


def test_a_misspelt_name_of_the_key_is_refused_and_its_value_hidden(capfd, graph, make_node):
    node = make_node(bring_up=False, apikey=KEY)
    assert not node.bring_up()
    assert "unknown parameter apikey" in capfd.readouterr().err
    assert graph.values()["apikey"].string_value == "set"
    assert not graph.shows(KEY)


@pytest.mark.parametrize("changes", [{}, {"cameras": "scene"}], ids=["ready", "not configurable"])
def test_a_key_cannot_be_set_while_the_node_runs(graph, make_node, changes):
    node = make_node(bring_up=False, **changes)
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=KEY)
    (result,) = graph.robot.call(
        SetParameters,
        "set_parameters",
        parameters=[ParameterMessage(name="api_key", value=value)],
    ).results
    assert not result.successful
    assert not graph.shows(KEY)
    assert node.secrets == {}


def test_what_was_read_back_can_be_given_again(make_node):
    assert not make_node(bring_up=False, api_key="set").bring_up()
    assert make_node(bring_up=False, api_key="not set").bring_up()


@pytest.mark.parametrize("name", ["api_key", "apikey", "API_KEY", "api_keys", "server.api_key"])
def test_every_spelling_of_the_key_is_a_secret(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["api_key_file", "prompt_key", "camera.scene.key", "server"])
def test_other_names_are_none(name):
    assert not is_secret(name)


def test_rclpy_is_the_one_that_declares_what_the_user_set(ros):
    """Guards the seam: without the base class a parameter is on the graph as it was given."""
    node = ros.add(
        rclpy.node.Node(
            "plain",
            context=ros.context,
            use_global_arguments=False,
            automatically_declare_parameters_from_overrides=True,
            parameter_overrides=[rclpy.parameter.Parameter("api_key", value=KEY)],
        )
    )
    assert node.get_parameter("api_key").value == KEY
