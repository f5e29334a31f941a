"""An action slot beside a planner slot, for tests to ask."""

import numpy as np
from server_fakes import CLIENT, WAIT, Inbox, logged_slot, open_with

from openpi_flash_server.config.live_prompts import LivePrompts, Prompts
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.combined import CombinedHandler
from openpi_flash_server.handlers.planning import PlannerHandler, SubtaskSource


class Pair:
    """An action slot and a planner slot, as the service wires them."""

    def __init__(
        self, policy, planner, *, default_prompt=None, template="{task}. Subtask: {subtask}"
    ):
        self.policy, self.planner = policy, planner
        self.planner_slot, self.action_slot = logged_slot("planner"), logged_slot("action")
        open_with(self.planner_slot, PlannerHandler(planner, default_prompt=default_prompt))
        open_with(
            self.action_slot,
            CombinedHandler(
                ActionHandler(policy),
                SubtaskSource(self.planner_slot),
                prompts=LivePrompts(Prompts(action_prompt_template=template)),
                default_prompt=default_prompt,
            ),
        )

    def send(self, slot, message, session="robot"):
        inbox = Inbox()
        slot.receive(
            lambda: {"state": np.zeros(2), **message},
            client=CLIENT,
            session=session,
            respond=inbox,
            is_cancelled=lambda: False,
        )
        return inbox

    def act(self, **message):
        return self.send(self.action_slot, message).wait()

    def plan(self, **message):
        return self.send(self.planner_slot, message).wait()

    def close(self):
        assert self.action_slot.close(grace=WAIT)
        assert self.planner_slot.close(grace=WAIT)
