"""The real models of the demo checkpoint behind the real server, as `openpi-flash` starts it."""

import concurrent.futures
import re
import shutil
import signal

import numpy as np
import pytest
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from served_slot import wait_until
from server_fakes import WAIT
from server_process import Process, health
from typer.testing import CliRunner

from flash_transport import FlashTransportPolicy, ServerError, WebsocketPolicy
from openpi_flash_server.cli import app
from openpi_flash_server.recording.comparison import Verdict
from openpi_flash_server.recording.reading import read_recording
from openpi_flash_server.recording.replay import replay

# openpi's client connects in the way of older websockets
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

INFERENCE = 60.0
"""s for an answer of a real model on a busy machine."""
AWAY = 0.05
"""rad from what the model would say: a chunk that it did not make itself."""
FREE_PORTS = {"websocket_port": 0, "quic_port": 0}
READY = "Service ready (mode=combined, slots=['action', 'planner'])"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(app, ["make-demo-checkpoint", str(directory)])
    assert result.exit_code == 0, result.output
    return directory


def config_of(checkpoint):
    return {
        "action": {
            "model_config_name": "pi05_sim_arm",
            "checkpoint_dir": str(checkpoint / "action"),
            "default_prompt": "stack the cubes",
        },
        "planner": {"checkpoint_dir": str(checkpoint / "planner")},
        "action_transport": FREE_PORTS,
        "planner_transport": FREE_PORTS,
        "host": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def server(checkpoint, tmp_path_factory):
    """One server of both demo models, which takes most of its time to compile them."""
    records = tmp_path_factory.mktemp("records")
    recording = {"recording": {"directory": str(records)}}
    process = Process(tmp_path_factory.mktemp("server"), config_of(checkpoint) | recording)
    process.records = records
    try:
        process.wait_for(READY)
        yield process
        process.popen.send_signal(signal.SIGTERM)
        assert process.end() == (0, "")
        assert not any("Traceback" in line for line in process.lines)
    finally:
        process.kill()


def observation(**changes):
    rng = np.random.default_rng(0)
    return {
        "observation/scene_image": rng.integers(0, 256, (224, 224, 3), dtype=np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (224, 224, 3), dtype=np.uint8),
        "observation/state": np.array([0.0, -0.6, 1.0, 0.9, 0.0, 0.0, 0.0], np.float32),
        "prompt": "stack the cubes",
        **changes,
    }


def check_reply(reply):
    assert reply["actions"].shape == (50, 7)
    assert reply["actions"].dtype == np.float64
    assert np.isfinite(reply["actions"]).all()
    assert reply["policy_timing"]["infer_ms"] > 0
    assert reply["server_timing"]["infer_ms"] >= reply["policy_timing"]["infer_ms"]
    assert isinstance(reply["subtask"]["text"], str)
    assert reply["subtask"]["ms"] > 0
    assert "error" not in reply["subtask"]


def test_the_start_ends_in_service_ready_and_health(server):
    assert server.lines[-1] == READY
    for slot in ("action", "planner"):
        assert health(server.ports(slot)[0]) == (200, "OK\n")


def test_openpis_client_gets_actions_and_a_subtask(server):
    openpi = WebsocketClientPolicy("127.0.0.1", server.ports("action")[0])
    assert openpi.get_server_metadata()["robot"] == "sim_arm"
    check_reply(openpi.infer(observation()))
    openpi._ws.close()


def test_quic_gets_the_same_for_the_same_seed_and_the_planner_says_the_same(server):
    with FlashTransportPolicy("127.0.0.1", server.ports("action")[1]) as policy:
        metadata = policy.get_server_metadata()
        seeded = [policy.infer(observation(seed=5), timeout=INFERENCE) for _ in range(2)]
        check_reply(seeded[0])
        np.testing.assert_array_equal(seeded[0]["actions"], seeded[1]["actions"])
    assert (metadata["action_horizon"], metadata["action_dim"]) == (50, 7)
    assert metadata["action_names"][0] == "shoulder_pan"
    assert [given["path"][0] for given in metadata["inputs"]] == [
        "observation/scene_image",
        "observation/wrist_image",
        "observation/state",
        "prompt",
    ]
    assert [metadata["actions"][6][key] for key in ("unit", "closed", "open")] == ["1", 1.0, 0.0]
    assert {tuple(spec["path"]) for spec in metadata["image_specs"]} == {
        ("observation/scene_image",),
        ("observation/wrist_image",),
    }
    with WebsocketPolicy("127.0.0.1", server.ports("planner")[0]) as planner:
        subtask = planner.infer(observation(), timeout=INFERENCE)["subtask"]
    assert subtask["text"] == seeded[0]["subtask"]["text"], "greedy decoding is deterministic"


def test_an_observation_that_is_wrong_is_told_its_key_and_the_connection_goes_on(server):
    with FlashTransportPolicy("127.0.0.1", server.ports("action")[1]) as policy:
        for broken, key in [
            ({"observation/state": np.zeros(3, np.float32)}, "observation/state"),
            ({"observation/scene_image": np.zeros((4, 4), np.uint8)}, "observation/scene_image"),
            ({"noise": np.zeros((2, 2), np.float32)}, "noise"),
            ({"prompt": 5}, "prompt"),
        ]:
            with pytest.raises(ServerError) as refused:
                policy.infer(observation(**broken), timeout=INFERENCE)
            assert refused.value.code == "bad_request"
            assert refused.value.message.startswith(f"{key}: ")
        missing = observation()
        del missing["observation/wrist_image"]
        with pytest.raises(ServerError, match="bad_request: observation/wrist_image: "):
            policy.infer(missing, timeout=INFERENCE)
        without_prompt = observation(mode="action_only")
        del without_prompt["prompt"]
        assert policy.infer(without_prompt, timeout=INFERENCE)["actions"].shape == (50, 7)


def test_three_robots_share_one_server(server):
    websocket_port, quic_port = server.ports("action")
    with (
        concurrent.futures.ThreadPoolExecutor(3) as pool,
        FlashTransportPolicy("127.0.0.1", quic_port, session="a") as first,
        FlashTransportPolicy("127.0.0.1", quic_port, session="b") as second,
        WebsocketPolicy("127.0.0.1", websocket_port) as third,
    ):
        answers = [
            pool.submit(client.infer, observation(seed=seed), INFERENCE)
            for seed, client in enumerate((first, second, third))
        ]
        assert health(websocket_port) == (200, "OK\n")
        replies = [answer.result(INFERENCE + WAIT) for answer in answers]
    for reply in replies:
        check_reply(reply)
    assert len({reply["sequence"] for reply in replies}) == 3


def test_a_chunk_goes_on_from_the_one_that_the_robot_plays(server):
    with FlashTransportPolicy("127.0.0.1", server.ports("action")[1]) as policy:
        assert "rtc" in policy.get_server_metadata()["supports"]
        free = policy.infer(observation(seed=5), timeout=INFERENCE)["actions"]
        played = free + AWAY
        rtc = {"previous_actions": played, "delay": 8, "execution_horizon": 20}
        pulled = policy.infer(observation(seed=6, rtc=rtc), timeout=INFERENCE)["actions"]
    # the last number is the gripper's, which nothing pulls
    assert np.abs(pulled - played)[:8, :-1].max() < 0.6 * AWAY
    assert np.abs(pulled - played)[-1].max() > 0.9 * AWAY


def test_the_configuration_chooses_how_chunks_go_on_batches_and_what_the_graph_rearranges(
    start, checkpoint
):
    """The frozen steps of `prefix` come back as they were sent; `identity` only pulls at them."""
    config = config_of(checkpoint)
    del config["planner"]
    config["action"]["rtc"] = {"method": "prefix"}
    config["action"]["graph"] = {"drop_padding": False, "token_buckets": [16]}
    config["action"]["max_batch"] = 2
    process = start(config)
    process.wait_for("Service ready (mode=action_only")
    (line,) = [line for line in process.lines if "loading the action model" in line]
    assert "rtc.method=prefix graph.drop_padding=False graph.token_buckets=" in line
    with FlashTransportPolicy("127.0.0.1", process.ports()[1]) as policy:
        free = policy.infer(observation(seed=5), timeout=INFERENCE)["actions"]
        rtc = {"previous_actions": free + AWAY, "delay": 8}
        frozen = policy.infer(observation(seed=6, rtc=rtc), timeout=INFERENCE)["actions"]
        images = {
            key: np.stack([value, 255 - value])
            for key, value in observation().items()
            if key.endswith("image")
        }
        states = np.stack([observation()["observation/state"]] * 2)
        both = policy.infer(
            observation(batch=2, seed=5) | images | {"observation/state": states},
            timeout=INFERENCE,
        )
    assert both["server_timing"]["batch_size"] == 2
    np.testing.assert_allclose(both["actions"][0], free, atol=1e-4)
    assert np.abs(both["actions"][1] - free).max() > 1e-3
    np.testing.assert_allclose(frozen[:8], free[:8] + AWAY, atol=1e-5)
    assert np.abs(frozen - free - AWAY)[-1].max() > 0.9 * AWAY


def damage_nothing_there(checkpoint):
    shutil.rmtree(checkpoint)
    return re.escape(str(checkpoint))


def damage_no_params(checkpoint):
    shutil.rmtree(checkpoint / "params")
    return "params"


def damage_no_statistics(checkpoint):
    shutil.rmtree(checkpoint / "assets")
    return "norm_stats.json"


def damage_statistics_are_no_json(checkpoint):
    (checkpoint / "assets" / "sim_arm" / "norm_stats.json").write_text("{")
    return "norm_stats.json"


def damage_weights_are_cut(checkpoint):
    for file in (checkpoint / "params" / "d").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return "params"


def damage_index_is_garbage(checkpoint):
    (checkpoint / "params" / "manifest.ocdbt").write_bytes(b"garbage")
    return "params"


def damage_tokenizer_is_garbage(checkpoint):
    (checkpoint / "paligemma_tokenizer.model").write_bytes(b"garbage")
    return "paligemma_tokenizer.model"


DAMAGES = [
    damage_nothing_there,
    damage_no_params,
    damage_no_statistics,
    damage_statistics_are_no_json,
    damage_weights_are_cut,
    damage_index_is_garbage,
    damage_tokenizer_is_garbage,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_broken_checkpoint_is_one_error_line_that_names_it(start, checkpoint, tmp_path, damage):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint / "action", broken)
    named = damage(broken)
    config = config_of(checkpoint)
    config["action"]["checkpoint_dir"] = str(broken)
    process = start(config)
    code, err = process.end()
    assert code == 1
    assert err.startswith("error: action.checkpoint_dir: ")
    assert len(err.splitlines()) == 1
    assert re.search(named, err), err
    assert str(broken) in err
    assert not any("Traceback" in line for line in process.lines)


def test_a_checkpoint_of_another_model_is_refused(start, checkpoint):
    config = config_of(checkpoint)
    config["action"]["model_config_name"] = "pi05_droid"
    code, err = start(config).end()
    assert code == 1
    assert err.startswith("error: action.checkpoint_dir: ")
    assert str(checkpoint / "action") in err


def test_recorded_requests_are_answered_bit_for_bit_when_they_are_sent_again(server):
    _, port = server.ports()
    rng = np.random.default_rng(5)
    with FlashTransportPolicy("127.0.0.1", port) as client:
        # the file ends with a chunk in memory, so the last one may be missing
        for _ in range(4):
            images = rng.integers(0, 256, (2, 224, 224, 3), np.uint8)
            observation = {
                "observation/scene_image": images[0],
                "observation/wrist_image": images[1],
                "observation/state": rng.normal(size=7).astype(np.float32),
                "session": "recorded",
                "mode": "action_only",
            }
            client.infer(observation, INFERENCE)

        def recorded():
            (file,) = server.records.iterdir()
            return [
                each
                for each in read_recording(file).exchanges
                if each.session == "recorded" and each.answer is not None
            ]

        wait_until(lambda: len(recorded()) >= 3)
        report = replay(recorded(), lambda message: {"result": client.infer(message, INFERENCE)})
    assert report.seeded.count >= 3
    assert report.seeded.verdicts == {Verdict.EQUAL: report.seeded.count}
