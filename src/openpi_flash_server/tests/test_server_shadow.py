"""A shadow policy answers copies of the robots' requests: compared, recorded, never executed."""

import threading

import numpy as np
import pytest
from mcap.reader import make_reader
from served_slot import wait_until
from server_fakes import WAIT, FakeBatchPolicy, FakePlanner, FakePolicy, make_work
from test_server_service import PLANNER, config_of

from flash_transport import WebsocketPolicy, unpackb
from openpi_flash_server.config.action_settings import ShadowSettings
from openpi_flash_server.config.live_prompts import LivePrompts, Prompts
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.combined import prompt_reader
from openpi_flash_server.recording.comparison import Verdict
from openpi_flash_server.recording.reading import read_recording
from openpi_flash_server.serving.loading import Loaders
from openpi_flash_server.serving.service import Service
from openpi_flash_server.shadow.shadow import _Copy
from openpi_flash_server.shadow.shadowing_handler import ShadowingHandler
from openpi_flash_server.slot.answer import Reply
from openpi_flash_server.slot.events import Answered
from openpi_flash_server.slot.session import ShadowSession


class Shifted(FakePolicy):
    """Answers with the state plus `shift`."""

    def __init__(self, shift, **options):
        super().__init__(**options)
        self.shift = shift

    def infer(self, observation, controls=None):
        moved = {**observation, "state": np.asarray(observation["state"]) + self.shift}
        return super().infer(moved, controls)


@pytest.fixture
def serve(tmp_path):
    services = []

    def start(policies, fake_planner=None, **values):
        def load(settings):
            return policies[settings.checkpoint_dir.rpartition("/")[2]]

        config = config_of(
            tmp_path,
            action={"model_config_name": "pi05_droid", "checkpoint_dir": "/exp/old"},
            shadow={"checkpoint_dir": "/exp/new"},
            **values,
        )
        services.append(Service(config, Loaders(policy=load, planner=lambda *_: fake_planner)))
        services[-1].load()
        return services[-1]

    yield start
    for service in services:
        assert service.close(grace=WAIT)


def connect(service):
    return WebsocketPolicy("127.0.0.1", service.endpoints["action"].websocket.port)


def compared(service, count):
    wait_until(lambda: service.watch.shadow._tally.count >= count)
    return service.watch.shadow._tally


def test_the_robot_gets_its_policys_answer_and_the_shadow_is_compared(serve):
    policies = {"old": Shifted(0.0), "new": Shifted(0.25)}
    service = serve(policies)
    with connect(service) as client:
        answer = client.infer({"state": np.ones(2), "prompt": "fold"}, WAIT)
        assert answer["actions"].tolist() == [[1.0, 1.0]] * 3
        tally = compared(service, 1)
    assert tally.verdicts == {Verdict.DIFFERENT: 1}
    assert tally.columns.tolist() == [0.25, 0.25]
    (copied,) = policies["new"].seen
    assert copied["prompt"] == "fold"
    # with the same noise, so that only the weights differ
    (control,) = policies["old"].controls
    assert control.seed is not None
    assert policies["new"].controls == [control]


def test_a_shadow_that_hangs_or_fails_costs_the_robot_no_answer(serve):
    policies = {"old": Shifted(0.0), "new": Shifted(0.0)}
    service = serve(policies)
    with connect(service) as client:
        for number in range(3):
            observation = {"state": np.full(2, number), "prompt": "fold"}
            assert client.infer(observation, WAIT)["actions"][0, 0] == number
        compared(service, 1)
        policies["new"].infer = lambda *_: 1 / 0
        assert client.infer({"state": np.full(2, 9.0)}, WAIT)["actions"][0, 0] == 9
        wait_until(lambda: service.watch.shadow.totals.outcomes["failed"] == 1)
    # traffic counts robots only
    summary = service.endpoints["action"].traffic._tally.take(0)
    assert summary.received == 4


def test_a_robots_request_goes_before_copies_that_wait(serve):
    gate = threading.Event()
    policies = {"old": Shifted(0.0, gate=gate), "new": Shifted(0.0)}
    service = serve(policies)
    gate.set()
    with connect(service) as one, connect(service) as two:
        one.infer({"state": np.ones(2)}, WAIT)
        compared(service, 1)
        gate.clear()
        # while a robot's request runs, a copy and another robot's request wait
        running = one.submit({"state": np.ones(2)}, WAIT)
        wait_until(lambda: len(policies["old"].seen) == 2)
        copy = _Copy(0, "x", make_work(), Reply({"actions": np.zeros((3, 2))}))
        service.watch.shadow._submit(copy)
        other = two.submit({"state": np.full(2, 5.0)}, WAIT)
        slot = service.endpoints["action"].slot
        wait_until(lambda: slot.waiting == 2)
        order = []
        for name, policy in policies.items():
            infer = policy.infer
            policy.infer = lambda *given, name=name, infer=infer: (
                order.append(name) or infer(*given)
            )
        gate.set()
        running.result(WAIT)
        other.result(WAIT)
        wait_until(lambda: len(order) >= 2)
    assert order[0] == "old"


def test_requests_of_evaluation_and_batches_are_not_copied(serve):
    policies = {"old": Shifted(0.0), "new": Shifted(0.0)}
    service = serve(policies)
    with connect(service) as client:
        client.infer({"state": np.ones(2), "request_class": "evaluation"}, WAIT)
        client.infer({"state": np.ones((2, 2)), "batch": 2}, WAIT)
        client.infer({"state": np.full(2, 3.0)}, WAIT)
        compared(service, 1)
    assert [seen["state"].tolist() for seen in policies["new"].seen] == [[3.0, 3.0]]


def test_the_shadows_answers_are_recorded_beside_the_robots(serve, tmp_path):
    policies = {"old": Shifted(0.0), "new": Shifted(0.5)}
    service = serve(policies, recording={"directory": str(tmp_path / "records")})
    with connect(service) as client:
        client.infer({"state": np.ones(2)}, WAIT)
        compared(service, 1)
    assert service.close(grace=WAIT)
    (file,) = (tmp_path / "records").iterdir()
    (exchange,) = read_recording(file).exchanges
    assert exchange.answer["result"]["actions"].tolist() == [[1.0, 1.0]] * 3
    with file.open("rb") as opened:
        topics = {
            channel.topic: unpackb(message.data)
            for _, channel, message in make_reader(opened).iter_messages()
        }
    shadow = topics["/openpi/shadow/answer"]
    assert shadow["request"] == exchange.request
    assert shadow["result"]["actions"].tolist() == [[1.5, 1.5]] * 3
    assert shadow["comparison"] == {
        "verdict": "different",
        "reason": "actions[0, 0] differ by 0.5",
        "largest": 0.5,
        "columns": [0.5, 0.5],
    }


@pytest.mark.parametrize("schedule", ["inline", "background"])
def test_beside_a_planner_the_shadow_reads_what_the_action_followed(serve, schedule):
    policies = {"old": Shifted(0.0), "new": Shifted(0.0)}
    planner = FakePlanner()
    service = serve(
        policies, planner, planner={**PLANNER, "schedule": schedule, "refresh_hz": 1e-3}
    )
    with connect(service) as client:
        for number, mode in enumerate(("default", "action_only", "subtask_only", "default")):
            message = {"state": np.full(2, number), "prompt": "fold", "mode": mode}
            client.infer(message, WAIT)
            if mode != "subtask_only":
                wait_until(lambda: len(policies["new"].seen) == len(policies["old"].seen))
        tally = compared(service, 3)
    assert tally.verdicts == {Verdict.EQUAL: 3}
    read = {
        name: [(seen["prompt"], seen["state"][0]) for seen in policy.seen]
        for name, policy in policies.items()
    }
    assert read["new"] == read["old"]
    assert read["new"][:2] == [("fold. Subtask: step 1 of fold", 0), ("fold", 1)]
    # the copies asked for no subtasks
    assert len(planner.prompts) == (3 if schedule == "inline" else 1)


def test_a_copy_whose_prompt_cannot_be_told_is_not_run(serve):
    policies = {"old": Shifted(0.0), "new": Shifted(0.0)}
    service = serve(policies, FakePlanner(), planner=PLANNER)
    slot = service.endpoints["action"].slot
    prompts = service.admin.prompts
    # told first of the answer, before the shadow
    listeners = slot._voice._listeners
    listeners.insert(
        0, lambda event: isinstance(event, Answered) and prompts.change(default_prompt="wipe")
    )
    with connect(service) as client:
        client.infer({"state": np.ones(2), "prompt": "fold"}, WAIT)
        wait_until(lambda: service.watch.shadow.totals.outcomes["not_run"] == 1)
    assert policies["new"].seen == []


def test_the_prompt_of_an_answer_is_read_from_it_unless_the_prompts_have_changed():
    prompts = LivePrompts(Prompts(action_prompt_template="{subtask} <- {task}"))
    read = prompt_reader(prompts, "fold")
    work = make_work({"state": np.zeros(2)})
    result = {"prompt_version": prompts.version, "subtask": {"text": "grasp"}}
    assert read(work, result) == "grasp <- fold"
    assert read(work, {**result, "subtask": {"text": "", "error": {}}}) == "fold"
    prompts.change(action_prompt_template="{task}, {subtask}")
    assert read(work, result) is None
    result["prompt_version"] = prompts.version
    assert read(work, result) == "fold, grasp"


def test_the_shadow_keeps_the_action_slots_settings_but_for_its_own(tmp_path):
    config = config_of(
        tmp_path,
        action={
            "model_config_name": "pi05_droid",
            "checkpoint_dir": "/exp/old",
            "dtype": "float32",
            "default_prompt": "fold",
        },
        shadow={"checkpoint_dir": "/exp/new"},
    )
    shadow = config.shadow_action
    assert config.shadow == ShadowSettings(checkpoint_dir="/exp/new")
    assert (shadow.checkpoint_dir, shadow.dtype, shadow.default_prompt) == (
        "/exp/new",
        "float32",
        "fold",
    )


def test_a_shadow_with_smaller_batches_answers_in_several_calls():
    big, small = FakeBatchPolicy(), FakePolicy()
    handler = ShadowingHandler(ActionHandler(big), ActionHandler(small))
    robots = [make_work({"state": np.full(2, n)}) for n in range(3)]
    copies = [make_work({"state": np.full(2, n)}, session=ShadowSession("a")) for n in range(3)]
    copies.insert(1, make_work({}, session=ShadowSession("a")))
    assert handler.max_batch == 8
    assert handler.batch_key(robots[0]) == handler.batch_key(robots[1])
    assert handler.batch_key(robots[0]) != handler.batch_key(copies[0])
    assert [result["actions"][0, 0] for result in handler.handle_batch(robots)] == [0, 1, 2]
    results = handler.handle_batch(copies)
    assert isinstance(results.pop(1), Exception)
    assert [result["actions"][0, 0] for result in results] == [0, 1, 2]
    assert big.sizes == [3]
