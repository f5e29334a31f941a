"""An action slot beside a planner slot, for tests to ask."""

import numpy as np
from server_fakes import CLIENT, WAIT, Inbox, logged_slot, open_with

from openpi_flash_server.config.live_prompts import LivePrompts, Prompts
from openpi_flash_server.handlers.action import ActionHandler
from openpi_flash_server.handlers.combined import CombinedHandler, task_reader
from openpi_flash_server.handlers.planning import PlannerHandler
from openpi_flash_server.handlers.subtask_board import Pace
from openpi_flash_server.handlers.subtask_feed import SubtaskFeed
from openpi_flash_server.runners.own_thread import OwnThread

INLINE = Pace(every_request=True, period=1.0, longest_wait=WAIT, oldest=WAIT)


class Pair:
    """An action slot and a planner slot, as the service wires them."""

    def __init__(
        self,
        policy,
        planner,
        *,
        default_prompt=None,
        template="{task}. Subtask: {subtask}",
        pace=INLINE,
    ):
        self.policy, self.planner = policy, planner
        self.planner_slot, self.action_slot = logged_slot("planner"), logged_slot("action")
        open_with(self.planner_slot, PlannerHandler(planner, default_prompt=default_prompt))
        self._pace, self._default_prompt = pace, default_prompt
        self._prompts = Prompts(action_prompt_template=template)
        open_with(self.action_slot, *self._handler_and_gate(policy))

    def _handler_and_gate(self, policy):
        action, prompts = ActionHandler(policy), LivePrompts(self._prompts)
        self.feed = SubtaskFeed(
            self.planner_slot,
            pace=self._pace,
            task_of=task_reader(action, prompts, self._default_prompt),
        )
        handler = CombinedHandler(
            action, self.feed, prompts=prompts, default_prompt=self._default_prompt
        )
        return handler, self.feed

    def replace_policy(self, policy):
        handler, gate = self._handler_and_gate(policy)
        self.action_slot.replace(OwnThread("new", handler, clock=self.action_slot.clock), gate)

    def send(self, slot, message, session="robot", *, client=CLIENT, is_cancelled=lambda: False):
        inbox = Inbox()
        slot.receive(
            lambda: {"state": np.zeros(2), **message},
            client=client,
            session=session,
            respond=inbox,
            is_cancelled=is_cancelled,
        )
        return inbox

    def act(self, **message):
        return self.send(self.action_slot, message).wait()

    def plan(self, **message):
        return self.send(self.planner_slot, message).wait()

    def close(self):
        assert self.action_slot.close(grace=WAIT)
        assert self.planner_slot.close(grace=WAIT)
