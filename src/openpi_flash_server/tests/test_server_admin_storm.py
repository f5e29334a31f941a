"""Operators that change settings all the time, while robots ask: no request fails or mixes them."""

import re
import threading

import numpy as np
from admin_service import ACTION, PLANNER
from server_fakes import WAIT

STORMS = 4
CHANGES = 25
BROKEN = [
    {"action_prompt_template": None},
    {"action_prompt_template": "{task} {nothing}"},
    {"max_wait_ms": -1},
    {"no_such_setting": 1},
]


def settings(number):
    """Two settings that are changed together, so that a mixture shows."""
    return {
        "default_prompt": f"p{number}",
        "action_prompt_template": f"t{number} {{task}}. {{subtask}}",
    }


def test_a_storm_of_changes_fails_no_request_and_mixes_no_two_changes(serve_admin, in_background):
    server = serve_admin(action={**ACTION, "default_prompt": "p0"}, planner=PLANNER)
    assert server.patch(**settings(0))[0] == 200
    is_over = threading.Event()

    def storm(first):
        codes = []
        for number in range(first, first + CHANGES):
            broken = BROKEN[number % len(BROKEN)]
            # what is right in a change that is refused holds no more than the rest of it
            codes.append(server.patch(**settings(number))[0])
            codes.append(server.patch(**{**settings(10_000), **broken})[0])
        return codes

    def robot(name):
        versions = set()
        with server.connect(session=name) as client:
            while not is_over.is_set():
                answer = client.infer({"state": np.ones(2)}, timeout=WAIT)
                versions.add(answer["prompt_version"])
        return versions

    robots = [in_background(robot, f"robot {number}") for number in range(2)]
    storms = [in_background(storm, 1 + CHANGES * index) for index in range(STORMS)]
    try:
        for one in storms:
            assert one.result(WAIT) == [200, 422] * CHANGES
    finally:
        is_over.set()
    for one in robots:
        assert len(one.result(WAIT)) > 1
    prompts = {seen["prompt"] for seen in server.policy.seen}
    # a request without a subtask, because its task changed while it was planned, has the task only
    assert [
        prompt for prompt in prompts if not re.fullmatch(r"(t(\d+) p\2\. .*|p\d+)", prompt)
    ] == []
    assert not any("10000" in prompt for prompt in prompts)
    status, last = server.get("/config")
    number = int(last["default_prompt"][1:])
    assert (status, {key: last[key] for key in settings(0)}) == (200, settings(number))
    assert server.service.endpoints["action"].slot.unhealthy_because is None
    assert server.get("/status")[0] == 200
