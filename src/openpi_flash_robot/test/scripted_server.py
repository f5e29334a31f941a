"""A real QUIC server whose policy a test writes."""

import threading

import numpy as np

from flash_transport import QuicServer

METADATA = {
    "action_horizon": 50,
    "action_dim": 3,
    "action_rate_hz": 25.0,
    "action_names": ["shoulder", "elbow", "gripper"],
    "supports": [],
}


class ScriptedServer:
    """Answers each request by `answer(observation)`; may be stopped and started again.

    An answer is the actions, a whole answer as a map, or the code and message of an error. First
    actions are sent to who asks for them; the answer follows when `rest` is set.
    """

    def __init__(self, answer, **metadata):
        self.answer = answer
        self.metadata = METADATA | metadata
        self.requests = []
        self.sessions = set()
        self.resets = 0
        self.answering = threading.Event()
        self.answering.set()
        self.rest = threading.Event()
        self.rest.set()
        self.port = 0
        self._quic = None
        self.start()

    def start(self):
        self._quic = QuicServer("127.0.0.1", self.port, metadata=self.metadata)
        self.port = self._quic.port
        self._thread = threading.Thread(target=self._serve, args=(self._quic,), daemon=True)
        self._thread.start()

    def stop(self):
        if self._quic is not None:
            self._quic.close()
            self.answering.set()
            self.rest.set()
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._quic = None

    def _serve(self, quic):
        while (request := quic.next_request()) is not None:
            self.answering.wait(60)
            if request.kind == "reset":
                self.resets += 1
                request.respond({})
                continue
            self.requests.append(request.observation)
            self.sessions.add(request.session)
            answer = self.answer(request.observation)
            steps = request.observation.get("first_actions")
            if steps and isinstance(answer, np.ndarray):
                request.send_first_actions({"actions": answer[:steps]})
                self.rest.wait(60)
            if isinstance(answer, tuple):
                request.fail(*answer)
            else:
                request.respond(answer if isinstance(answer, dict) else {"actions": answer})


def stay(observation):
    """Fifty steps where the robot is."""
    return np.tile(observation["observation/state"], (50, 1))


def sweep(speed=0.4, joint=0):
    """Fifty steps of a joint that goes on from where it is, at a speed in rad/s, at 25 Hz."""

    def answer(observation):
        way = np.zeros((50, 3))
        way[:, joint] = speed * np.arange(50) / 25.0
        return stay(observation) + way

    return answer
