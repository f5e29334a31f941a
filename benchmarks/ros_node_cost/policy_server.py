"""The policy of the benchmark: answers at once, with a chunk that moves the arm a little.

usage: python benchmarks/ros_node_cost/policy_server.py    (prints the port that it listens on)
"""

from __future__ import annotations

import numpy as np

from flash_transport import QuicServer

HORIZON, ACTION_RATE_HZ = 50, 25.0
AMPLITUDE, PERIOD_S = 0.02, 4.0
"""rad and s: below what a command may lead a joint that does not move."""


def main() -> None:
    """Serve until the process is killed."""
    names = [f"joint_{number}" for number in range(7)]
    server = QuicServer(
        "127.0.0.1",
        0,
        metadata={
            "action_horizon": HORIZON,
            "action_dim": len(names),
            "action_rate_hz": ACTION_RATE_HZ,
            "action_names": names,
            "supports": [],
        },
    )
    print(server.port, flush=True)
    while (request := server.next_request()) is not None:
        if request.kind == "reset":
            request.respond({})
            continue
        state = np.asarray(request.observation["observation/state"])
        phases = np.arange(HORIZON) * 2 * np.pi / (ACTION_RATE_HZ * PERIOD_S)
        offsets = AMPLITUDE * np.sin(phases)
        request.respond({"actions": state + offsets[:, None], "server_timing": {"infer_ms": 0.0}})


if __name__ == "__main__":
    main()
