"""The parameters of the link to the server, and of the task."""

from __future__ import annotations

from openpi_flash_robot.settings.parameter_kinds import Parameter, ParameterKind

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "server",
        ParameterKind.STRING,
        "127.0.0.1",
        "Name or address of the policy server, with or without a port (10.0.0.5:5555, [::1]:5555); "
        "for auto and quic also unix:/path, for auto and websocket also ws://… and wss://….",
    ),
    Parameter(
        "port",
        ParameterKind.INTEGER,
        0,
        "Port of the policy server; 0 is the transport's own: 5555 for auto and quic, 8000 for "
        "websocket.",
        low=0,
        high=65535,
    ),
    Parameter(
        "transport",
        ParameterKind.STRING,
        "auto",
        "How to reach the server. auto is QUIC, and WebSocket while UDP does not get through; quic "
        "is nothing else; websocket also reaches openpi's own server.",
        choices=("auto", "quic", "websocket"),
    ),
    Parameter(
        "websocket_port",
        ParameterKind.INTEGER,
        0,
        "The server's WebSocket port, for auto; 0: 8000 beside port 5555, 8002 beside 5556, and no "
        "WebSocket beside another port.",
        low=0,
        high=65535,
    ),
    Parameter(
        "insecure_fallback",
        ParameterKind.BOOL,
        False,
        "For auto: use WebSocket without encryption, to a server without TLS, also where the "
        "server is then not verified or the API key can be read on the network.",
    ),
    Parameter(
        "api_key_file",
        ParameterKind.STRING,
        "",
        "File that holds the API key, for a server with api_keys. Only its owner should be able to "
        "read it (chmod 600). Overrides the environment variable OPENPI_FLASH_API_KEY, which "
        "overrides api_key.",
    ),
    Parameter(
        "api_key",
        ParameterKind.STRING,
        "",
        "The API key itself. Prefer api_key_file or OPENPI_FLASH_API_KEY: other users of the "
        "computer can read command lines. Reads back as `set` or `not set`.",
        is_secret=True,
    ),
    Parameter(
        "server_fingerprint",
        ParameterKind.STRING,
        "",
        "SHA-256 of the server's certificate in hex, as the server prints it at start (not for "
        "ws://). "
        "Without server_fingerprint, ca_file or known_servers the server is not authenticated.",
    ),
    Parameter(
        "ca_file",
        ParameterKind.STRING,
        "",
        "PEM file of certificate authorities; one of them must have signed the server's "
        "certificate for the name in server (not for ws://).",
    ),
    Parameter(
        "known_servers",
        ParameterKind.STRING,
        "",
        "File of known servers, such as ~/.config/openpi-flash/known_servers (not for ws://): the "
        "first connection to a server stores its certificate there; later, a different "
        "certificate is refused.",
    ),
    Parameter(
        "relay",
        ParameterKind.STRING,
        "",
        "Name or address of a relay, with or without a port (5557), for a server that cannot be "
        "reached; server is then its name there. For auto and quic, and without WebSocket.",
    ),
    Parameter(
        "relay_token_file",
        ParameterKind.STRING,
        "",
        "File with the relay's token for that name. Only its owner should be able to read it "
        "(chmod 600).",
    ),
    Parameter(
        "connect_timeout",
        ParameterKind.DOUBLE,
        5.0,
        "How long one attempt to connect may take.",
        unit="s",
        low=0.1,
        high=60.0,
    ),
    Parameter(
        "reconnect_delay_max",
        ParameterKind.DOUBLE,
        2.0,
        "Longest pause between attempts to connect; the first pause is 0.1 s and doubles.",
        unit="s",
        low=0.1,
        high=60.0,
    ),
    Parameter(
        "request_timeout",
        ParameterKind.DOUBLE,
        1.0,
        "A request without an answer after this time is given up, and the robot holds.",
        unit="s",
        low=0.01,
        high=60.0,
        dynamic=True,
    ),
    Parameter(
        "prompt",
        ParameterKind.STRING,
        "",
        "The instruction at start; change it with the service ~/set_prompt. "
        "Empty leaves it to the server's default.",
    ),
    Parameter(
        "dry_run",
        ParameterKind.BOOL,
        True,
        "True publishes chunks and status but sends nothing to a controller. "
        "False moves the robot.",
    ),
    Parameter(
        "autostart",
        ParameterKind.BOOL,
        True,
        "Configure and activate at start; false leaves that to a lifecycle manager.",
    ),
    Parameter(
        "wait_for_goal",
        ParameterKind.BOOL,
        False,
        "After activation, wait for a goal (~/run_policy or ~/start) before moving; false begins "
        "at once, with the instruction.",
    ),
    Parameter(
        "prompt_topic",
        ParameterKind.STRING,
        "prompt",
        "Topic with std_msgs/String that changes the instruction; empty: none.",
    ),
    Parameter(
        "publish_subtask_text",
        ParameterKind.BOOL,
        True,
        "Mirror the subtask on subtask_text as std_msgs/String.",
    ),
)
