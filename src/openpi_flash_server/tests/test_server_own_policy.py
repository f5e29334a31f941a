"""own_policy/: a user's Python object behind the server's transports."""

import json
import sys
import textwrap

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from server_configs import parse
from typer.testing import CliRunner

import openpi_flash_server.logs.log_output
import openpi_flash_server.serving.process
from flash_transport import FlashTransportPolicy, ServerError
from openpi_flash_models.errors import ModelOutputError, ObservationError
from openpi_flash_models.policy.policy_protocol import InferenceControls
from openpi_flash_server.cli import app
from openpi_flash_server.config.policy_name import PythonName
from openpi_flash_server.own_policy.errors import PolicyCallError, PolicyLoadError
from openpi_flash_server.own_policy.own_policy import OwnBatchPolicy, own_policy
from openpi_flash_server.own_policy.python_object import make_policy
from openpi_flash_server.serving.endpoint import StartError
from openpi_flash_server.serving.service import Service

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

INPUTS = [
    {"path": ["images", "top"], "kind": "image", "shape": [6, 8, 3]},
    {"path": "state", "kind": "joints", "shape": [2], "names": ["a", "b"], "unit": "rad"},
    {"path": "prompt", "kind": "text", "required": False},
]
ACTIONS = [{"name": "a"}, {"name": "b", "interface": "gripper", "unit": "1"}]


class Chunk:
    """Answers its `actions` whatever it is asked, and remembers what it was asked."""

    def __init__(self, actions=((1, 2), (3, 4), (5, 6)), **more):
        self.answer = {"actions": np.array(actions), **more}
        self.seen = []
        self.episodes = 0

    def infer(self, observation):
        self.seen.append(observation)
        return self.answer

    def reset(self):
        self.episodes += 1


class Says(Chunk):
    def __init__(self, metadata, **more):
        super().__init__(**more)
        self.metadata = metadata


# the object's answers


def test_openpis_interface_is_enough():
    policy = own_policy(Chunk(policy_timing={"infer_ms": 7.0}, note="kept"), "python:m:p")
    result = policy.infer({"state": 1})
    assert result.actions.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (result.actions.dtype, result.infer_ms) == (np.float64, 7.0)
    assert result.extra == {"note": "kept"}
    assert policy.spec.supports == ()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, 'answered a NoneType, expected {"actions": [H, D]}'),
        ({"action": [1]}, 'answered a map with action, expected {"actions": [H, D]}'),
        ({"actions": [1.0, 2.0]}, "answered actions float64[2], expected numbers [horizon,"),
        ({"actions": np.zeros((1, 3, 2))}, "answered actions float64[1, 3, 2], expected"),
        ({"actions": np.zeros((0, 2))}, "answered actions float64[0, 2], expected numbers"),
        ({"actions": [["a", "b"]]}, "answered actions <U1[1, 2], expected numbers"),
        ({"actions": [[1.0], [2.0, 3.0]]}, "answered actions that are no array: "),
        ({"actions": [[0.0, 1.0], [np.nan, 0.0]]}, "actions are not finite: actions[1, 0] is nan"),
        ({"actions": [[0.0, np.inf]]}, "actions are not finite: actions[0, 1] is inf"),
    ],
)
def test_an_answer_that_is_no_chunk_names_the_policy_and_what_it_was(answer, message):
    chunk = Chunk()
    chunk.answer = answer
    with pytest.raises(PolicyCallError) as caught:
        own_policy(chunk, "python:m:p").infer({})
    assert str(caught.value).startswith("python:m:p")
    assert message in str(caught.value)


def test_a_chunk_of_another_size_than_the_policy_says_is_refused():
    for metadata, key in (
        ({"action_horizon": 4}, "action_horizon is 4"),
        ({"actions": [{"name": "a"}]}, "action_dim is 1"),
    ):
        with pytest.raises(PolicyCallError, match=rf"actions \[3, 2\], but its {key}"):
            own_policy(Says(metadata), "python:m:p").infer({})


def test_what_it_raises_is_named_and_a_refused_observation_stays_the_callers_fault():
    class Raises:
        def infer(self, observation):
            raise observation["error"]

    policy = own_policy(Raises(), "python:m:p")
    with pytest.raises(PolicyCallError, match=r"^python:m:p raised KeyError: 'state'$"):
        policy.infer({"error": KeyError("state")})
    with pytest.raises(PolicyCallError, match="raised SystemExit"):
        policy.infer({"error": SystemExit(3)})
    with pytest.raises(ObservationError, match="state: too short"):
        policy.infer({"error": ObservationError("state", "too short")})


def test_the_default_prompt_and_controls_reach_the_object_as_a_client_sent_them():
    chunk = Chunk()
    policy = own_policy(chunk, "python:m:p", default_prompt="wave")
    policy.infer({"state": 1}, InferenceControls(seed=3))
    policy.infer({"prompt": "stop"})
    policy.infer({"prompt": "  "})
    assert chunk.seen == [
        {"state": 1, "prompt": "wave", "seed": 3},
        {"prompt": "stop"},
        {"prompt": "wave"},
    ]


def test_reset_runs_before_the_next_call_and_once():
    chunk = Chunk()
    policy = own_policy(chunk, "python:m:p")
    policy.reset()
    policy.reset()
    assert chunk.episodes == 0
    policy.infer({})
    policy.infer({})
    assert chunk.episodes == 1


# several observations in one call


class Batches:
    """Answers the sum of each state; an exception for a negative one."""

    max_batch = 3

    def __init__(self):
        self.sizes = []

    def infer_batch(self, observations):
        self.sizes.append(len(observations))
        return [
            ValueError("negative") if o["state"] < 0 else {"actions": [[o["state"]]]}
            for o in observations
        ]


def test_a_batch_is_one_call_and_an_error_in_it_fails_one_request():
    batches = Batches()
    policy = own_policy(batches, "python:m:p")
    assert isinstance(policy, OwnBatchPolicy)
    assert policy.max_batch == 3
    controls = InferenceControls()
    first, second, third = policy.infer_batch([({"state": s}, controls) for s in (1, -1, 2)])
    assert (first.actions.tolist(), third.actions.tolist()) == ([[1]], [[2]])
    assert first.batch_size == 3
    assert isinstance(second, ModelOutputError)
    assert str(second) == "python:m:p answered ValueError: negative"
    assert policy.infer({"state": 4}).actions.tolist() == [[4]], "infer is not needed"
    assert batches.sizes == [3, 1]


def test_a_batch_with_too_few_answers_fails_whole():
    class Short:
        def infer_batch(self, observations):
            return []

    policy = own_policy(Short(), "python:m:p")
    answers = policy.infer_batch([({}, InferenceControls())] * 2)
    assert [str(answer) for answer in answers] == [
        "python:m:p answered a list of 0 to 2 observations, expected a list with one answer for "
        "each"
    ] * 2


# what it says of itself


def test_the_warm_up_asks_for_zeros_of_what_it_reads_and_learns_the_size_of_a_chunk():
    says = Says({"inputs": INPUTS})
    policy = own_policy(says, "python:m:p")
    policy.warm_up()
    (asked,) = says.seen
    assert asked["images"]["top"].shape == (6, 8, 3)
    assert asked["state"].tolist() == [0, 0]
    assert (policy.spec.action_horizon, policy.spec.action_dim) == (3, 2)
    policy.infer({})
    assert says.episodes == 1, "what the warm-up left behind is gone"


def test_a_policy_that_says_nothing_is_not_asked_before_the_first_request():
    chunk = Chunk()
    own_policy(chunk, "python:m:p").warm_up()
    assert chunk.seen == []


def test_a_warm_up_of_its_own_is_called_and_its_failure_ends_the_start():
    class Cold(Says):
        def warm_up(self):
            raise MemoryError("no room")

    with pytest.raises(PolicyLoadError, match="the warm-up failed: python:m:p raised MemoryError"):
        own_policy(Cold({"inputs": INPUTS}), "python:m:p").warm_up()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (3, "its metadata is no map"),
        ({1: 2}, "its metadata is no map with text as keys"),
        ({"x": object()}, "its metadata cannot be sent: "),
        ({"inputs": [{"kind": "image"}]}, "an input's path is None"),
        ({"inputs": [{**INPUTS[0], "shape": [4]}]}, "input images/top: shape is [4], expected"),
        ({"inputs": [{**INPUTS[1], "unit": "deg"}]}, "input state: unit is 'deg', expected one"),
        ({"inputs": [{**INPUTS[1], "names": ["a"]}]}, "input state has 1 names for 2 numbers"),
        ({"inputs": [{**INPUTS[1], "size": 2}]}, "input state has no size, known are"),
        ({"actions": [{"name": "a", "unit": "deg"}]}, "action a: unit of position is 'deg'"),
        ({"actions": [{"nam": "a"}]}, "unexpected keyword argument 'nam'"),
        ({"actions": ACTIONS, "action_dim": 3}, "action_dim is 3, and actions has 2 entries"),
        ({"action_horizon": "ten"}, "action_horizon is 'ten', expected a whole number"),
    ],
)
def test_wrong_words_about_itself_are_refused_at_the_start(metadata, message):
    with pytest.raises(PolicyLoadError) as caught:
        own_policy(Says(metadata), "python:m:p")
    assert message in str(caught.value)


# finding it


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = []

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        names.append(name)

    yield write
    for name in names:
        sys.modules.pop(name, None)


RAMP = """
    import numpy as np

    class Ramp:
        metadata = {"inputs": [{"path": ["state"], "kind": "vector", "shape": [2]}]}
        def __init__(self, steps=3):
            self.steps = steps
            self.calls = 0
        def infer(self, observation):
            self.calls += 1
            if "explode" in observation:
                raise RuntimeError("boom")
            if "nan" in observation:
                return {"actions": np.full((self.steps, 2), np.nan)}
            if "unsendable" in observation:
                return {"actions": np.zeros((self.steps, 2)), "file": object()}
            way = np.arange(self.steps)[:, None]
            return {"actions": observation["state"] + way, "calls": self.calls}
        def reset(self):
            self.calls = 0

    class Named(Ramp):
        metadata = {
            **Ramp.metadata,
            "robot": "two_joints",
            "action_rate_hz": 10,
            "actions": [{"name": "a"}, {"name": "b", "interface": "gripper", "unit": "1"}],
            "reset_pose": [0.0, 0.5],
        }

    def make():
        return Ramp()

    def make_of(checkpoint_dir, default_prompt=None):
        ramp = Ramp()
        ramp.made_of = (checkpoint_dir, default_prompt)
        return ramp

    ready = Ramp(5)
    number = 3

    def broken():
        raise OSError("no such weights")
"""


def make(attribute, module="own_ramp", **arguments):
    arguments = {"checkpoint_dir": None, "default_prompt": None, **arguments}
    return make_policy(PythonName(module, attribute), arguments)


def test_a_function_a_class_and_an_object_are_found_in_the_current_directory(module):
    module("own_ramp", RAMP)
    assert make("make").steps == make("Ramp").steps == 3
    assert make("ready").steps == 5
    made = make("make_of", checkpoint_dir="/w", default_prompt="wave")
    assert made.made_of == ("/w", "wave")


@pytest.mark.parametrize(
    ("attribute", "arguments", "message"),
    [
        ("mak", {}, "own_ramp.py) has no mak"),
        ("number", {}, "python:own_ramp:number is a int, expected a function or class"),
        ("broken", {}, "python:own_ramp:broken raised OSError: no such weights"),
        ("ready.file", {}, "own_ramp.py) has no ready.file"),
        ("make", {"checkpoint_dir": "/w"}, "own_ramp:make has no parameter checkpoint_dir"),
        (
            "ready",
            {"checkpoint_dir": "/w"},
            "is a policy already, so it cannot take checkpoint",
        ),
        ("np.array", {}, "python:own_ramp:np.array "),
    ],
)
def test_what_cannot_be_made_is_named(module, attribute, arguments, message):
    module("own_ramp", RAMP)
    with pytest.raises(PolicyLoadError) as caught:
        make(attribute, **arguments)
    assert message in str(caught.value)


def test_a_module_that_is_missing_or_needs_another_is_told_apart(module):
    with pytest.raises(PolicyLoadError, match="there is no module no_such: install it, put it"):
        make("make", module="no_such.policies")
    module("own_needy", "import no_such_library")
    with pytest.raises(PolicyLoadError, match="module own_needy needs no_such_library: install it"):
        make("make", module="own_needy")
    module("own_faulty", "1 / 0")
    with pytest.raises(PolicyLoadError, match="own_faulty cannot be imported: ZeroDivisionError"):
        make("make", module="own_faulty")


# behind real transports


@pytest.fixture
def serve(module, tmp_path):
    """`serve(name)` is a server of a policy of the ramp module, until the test ends."""
    module("own_ramp", RAMP)
    services = []

    def start(name, **more):
        values = {
            "action": {"model_config_name": f"python:own_ramp:{name}", **more},
            "action_transport": {"websocket_port": 0, "quic_port": 0},
            "host": "127.0.0.1",
            "state_dir": str(tmp_path / "state"),
        }
        services.append(Service(parse(values)))
        services[-1].load()
        return services[-1].endpoints["action"]

    yield start
    for service in services:
        service.close(grace=5)


STATE = {"state": np.array([1.0, 2.0])}


def connect(endpoint):
    return FlashTransportPolicy(
        "127.0.0.1", endpoint.quic.port, server_fingerprint=endpoint.quic.fingerprint
    )


def test_quic_and_openpis_client_get_the_same_chunk(serve):
    endpoint = serve("make")
    with connect(endpoint) as client:
        answer = client.infer(STATE, timeout=20)
    assert answer["actions"].tolist() == [[1, 2], [2, 3], [3, 4]]
    assert answer["calls"] == 1, "entries of the object's own are sent along"
    theirs = WebsocketClientPolicy("127.0.0.1", endpoint.websocket.port)
    assert theirs.infer(STATE)["actions"].tolist() == answer["actions"].tolist()
    theirs._ws.close()


def test_a_policy_that_fails_answers_that_request_and_goes_on(serve):
    with connect(serve("make")) as client:
        for key, message in (
            ("explode", "PolicyCallError: python:own_ramp:make raised RuntimeError: boom"),
            ("nan", "python:own_ramp:make: the model's actions are not finite: actions[0, 0] is"),
            ("unsendable", "the reply could not be packed"),
        ):
            with pytest.raises(ServerError) as caught:
                client.infer({**STATE, key: 1}, timeout=20)
            assert caught.value.code == "internal"
            assert message in caught.value.message
        assert client.infer(STATE, timeout=20)["actions"].shape == (3, 2)


def test_reset_of_a_client_reaches_the_object(serve):
    with connect(serve("make")) as client:
        client.infer(STATE, timeout=20)
        assert client.infer(STATE, timeout=20)["calls"] == 2
        client.reset()
        assert client.infer(STATE, timeout=20)["calls"] == 1


def test_metadata_is_what_the_object_says_and_nothing_is_made_up(serve):
    with connect(serve("make")) as client:
        metadata = client.get_server_metadata()
    assert metadata["model"] == "python:own_ramp:make"
    assert [given["path"] for given in metadata["inputs"]] == [["state"]]
    assert (metadata["action_horizon"], metadata["action_dim"]) == (3, 2), "by the warm-up"
    unknown = {"actions", "action_names", "action_rate_hz", "robot", "image_specs"}
    assert not unknown & metadata.keys()
    with connect(serve("Named")) as client:
        metadata = client.get_server_metadata()
    assert metadata["action_names"] == ["a", "b"]
    assert metadata["actions"][1]["interface"] == "gripper"
    assert (metadata["robot"], metadata["action_rate_hz"]) == ("two_joints", 10.0)
    assert metadata["reset_pose"] == [0.0, 0.5]


def test_a_policy_that_cannot_be_loaded_ends_the_start_and_names_the_setting(serve):
    with pytest.raises(StartError) as caught:
        serve("broken")
    assert str(caught.value) == (
        "action.model_config_name python:own_ramp:broken: python:own_ramp:broken raised OSError: "
        "no such weights"
    )


# on the command line


def test_serve_takes_it_in_the_place_of_a_configs_name(monkeypatch):
    served = []
    monkeypatch.setattr(
        openpi_flash_server.serving.process, "serve", lambda config, _: served.append(config)
    )
    monkeypatch.setattr(openpi_flash_server.logs.log_output, "configure", lambda level, form: None)
    command = ["serve", "--policy-config", "python:my_pkg.policies:make"]
    result = CliRunner().invoke(app, [*command, "--policy-dir", "/weights"])
    assert result.exit_code == 0, result.output
    assert served[0].action.model_config_name == "python:my_pkg.policies:make"
    assert served[0].action.checkpoint_dir == "/weights"
    result = CliRunner().invoke(app, ["serve", "--policy-config", "python:my_pkg"])
    assert result.exit_code == 2
    assert "must be python:MODULE:NAME" in result.stderr
    assert "(from --policy-config)" in result.stderr


def test_check_config_imports_nothing_and_names_a_module_that_is_not_here(tmp_path):
    (tmp_path / "own_faulty.py").write_text("1 / 0")
    path = tmp_path / "c.json"
    for module, note in (("no_such.policies", "no module no_such on"), ("own_faulty", None)):
        path.write_text(json.dumps({"action": {"model_config_name": f"python:{module}:make"}}))
        result = CliRunner().invoke(app, ["config", "check", "--checkpoints", str(path)])
        assert result.exit_code == 0, result.output
        assert ("note: " in result.output) == (note is not None)
        assert note is None or note in result.output
