"""Which connections go through a proxy of the environment, and what is said when that fails."""

import contextlib
import socket
import threading

import pytest
from openpi_server import SHORT, SOON

from flash_transport import Disconnected, Timeout, WebsocketPolicy
from flash_transport.websocket import dial
from flash_transport.websocket.proxies import Proxy, is_local_name, is_public, proxy_for

PROXY = "http://proxy.lab:3128"
VARIABLES = ("ws", "wss", "socks", "https", "http", "all", "no")


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_PROXY".upper(), raising=False)


@pytest.mark.parametrize("variable", ["ws_proxy", "https_proxy", "http_proxy", "all_proxy"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_a_proxy_comes_from_any_of_the_variables(variable, case):
    found = proxy_for("8.8.8.8", 8000, is_secure=False, environment={case(variable): PROXY})
    assert found == Proxy(PROXY, case(variable))


def test_no_variable_is_no_proxy():
    assert proxy_for("8.8.8.8", 8000, is_secure=False, environment={}) is None


def test_http_proxy_is_for_connections_without_tls():
    assert proxy_for("8.8.8.8", 443, is_secure=True, environment={"http_proxy": PROXY}) is None


def test_the_lower_case_form_goes_first_and_an_empty_one_switches_off():
    both = {"http_proxy": "http://a:1", "HTTP_PROXY": "http://b:1"}
    assert proxy_for("8.8.8.8", 1, is_secure=False, environment=both).url == "http://a:1"
    off = {"http_proxy": "", "HTTP_PROXY": "http://b:1"}
    assert proxy_for("8.8.8.8", 1, is_secure=False, environment=off) is None


@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("http_proxy", "proxy.lab:3128", "http://proxy.lab:3128"),
        ("socks_proxy", "proxy.lab:1080", "socks5h://proxy.lab:1080"),
        ("socks_proxy", "http://proxy.lab:1080", "socks5h://proxy.lab:1080"),
    ],
)
def test_a_proxy_may_be_written_without_a_scheme(variable, value, url):
    found = proxy_for("8.8.8.8", 8000, is_secure=False, environment={variable: value})
    assert found.url == url
    assert found.problem is None


EXEMPT = [
    ("*", "gpu.example", True),
    ("gpu.example", "gpu.example", True),
    (".example", "gpu.example", True),
    ("example", "gpu.example", True),
    ("*.example", "gpu.example", True),
    ("other, GPU.example ", "gpu.example.", True),
    ("gpu.example:8000", "gpu.example", True),
    ("gpu.example:9000", "gpu.example", False),
    ("u.example", "gpu.example", False),
    ("", "gpu.example", False),
    (" , ", "gpu.example", False),
    ("8.8.8.8", "8.8.8.8", True),
    ("8.8.8.8:8000", "8.8.8.8", True),
    ("8.8.8.8:9000", "8.8.8.8", False),
    ("8.8.0.0/16", "8.8.8.8", True),
    ("8.9.0.0/16", "8.8.8.8", False),
    ("8", "8.8.8.8", False),
    ("2001:4860::/32", "2001:4860:4860::8888", True),
    ("[2001:4860:4860::8888]:8000", "2001:4860:4860::8888", True),
]


@pytest.mark.parametrize(("no_proxy", "host", "is_exempt"), EXEMPT)
def test_no_proxy_exempts_names_addresses_and_networks(no_proxy, host, is_exempt):
    environment = {"http_proxy": PROXY, "no_proxy": no_proxy}
    found = proxy_for(host, 8000, is_secure=False, environment=environment)
    assert (found is None) == is_exempt


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://proxy:1", "schemes"),
        ("http://proxy:port", "no URL"),
        ("http://proxy:1/path", "alone"),
        ("http://", "alone"),
        ("http://sesame@proxy:1", "a user without a password"),
        ("http://user:sesame@proxy:1", None),
    ],
)
def test_what_is_no_proxy_is_said_without_showing_its_password(url, problem):
    proxy = Proxy(url, "http_proxy")
    if problem is None:
        assert proxy.problem is None
    else:
        assert problem in proxy.problem
    assert "sesame" not in f"{proxy} {proxy!r} {proxy.problem}"
    assert "http_proxy" in str(proxy)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.0.0.5",
        "172.16.1.1",
        "192.168.1.1",
        "169.254.1.1",
        "fe80::1%eth0",
        "fd00::1",
        "100.100.1.1",
    ],
)
def test_addresses_of_the_own_network_are_not_public(address):
    assert not is_public([address])
    assert is_public([address, "8.8.8.8"])


@pytest.mark.parametrize(
    ("name", "is_local"),
    [("localhost", True), ("a.localhost", True), ("GPU.local.", True), ("gpu.example", False)],
)
def test_some_names_are_of_the_own_network(name, is_local):
    assert is_local_name(name) == is_local


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "all_proxy", "socks_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_computer_is_reached_whatever_the_environment_says(
    server, monkeypatch, variable, host
):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with WebsocketPolicy(host, server.port, connect_timeout=SOON) as policy:
        assert policy.infer({"a": 1}) == {"a": 1}


def test_a_name_is_looked_up_to_tell_whether_it_is_in_the_own_network(server, monkeypatch):
    look_up = socket.getaddrinfo
    asked = []

    def private(host, *arguments, **options):
        asked.append(host)
        return look_up("127.0.0.1" if host == "gpu.example" else host, *arguments, **options)

    monkeypatch.setattr(dial.socket, "getaddrinfo", private)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with WebsocketPolicy("gpu.example", server.port, connect_timeout=SOON) as policy:
        assert policy.infer({"a": 1}) == {"a": 1}
    assert asked[0] == "gpu.example"


class ConnectProxy:
    """An HTTP proxy that connects everybody to one port of this computer, or refuses."""

    def __init__(self, port=None):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests = []
        self._ends = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._ends.callback(_shut, client)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += client.recv(4096)
                self.requests.append(request)
                if self._target is None:
                    client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                    _shut(client)
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ends.callback(_shut, server)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        _shut(self._listener)
        self._thread.join()
        self._ends.close()


def _shut(sock):
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def _pump(one, other):
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def test_a_server_in_the_internet_is_reached_through_the_proxy(server, monkeypatch):
    with ConnectProxy(server.port) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        with WebsocketPolicy("8.8.8.8", 8000, connect_timeout=SOON) as policy:
            assert policy.infer({"a": 1}) == {"a": 1}
        assert proxy.requests[0].startswith(b"CONNECT 8.8.8.8:8000 ")


@pytest.fixture
def public_name(monkeypatch):
    """A name that resolves to a public address."""
    look_up = socket.getaddrinfo

    def public(host, *arguments, **options):
        return look_up("8.8.8.8" if host == "gpu.example" else host, *arguments, **options)

    monkeypatch.setattr(dial.socket, "getaddrinfo", public)
    return "gpu.example"


def test_a_proxy_that_does_not_listen_is_named_and_its_password_is_not_shown(
    public_name, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://user:sesame@127.0.0.1:{port}")
    with pytest.raises(Disconnected) as failed:
        WebsocketPolicy(public_name, 8000, connect_timeout=SHORT)
    text = str(failed.value)
    assert f"through the proxy 127.0.0.1:{port} (http_proxy)" in text
    assert "put gpu.example into no_proxy or unset http_proxy" in text
    each = failed.value
    while each is not None:
        assert "sesame" not in f"{each} {each!r} {vars(each)}"
        each = each.__cause__ or each.__context__


def test_a_proxy_that_refuses_is_named(public_name, monkeypatch):
    with ConnectProxy() as proxy:
        monkeypatch.setenv("all_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(Disconnected, match=r"proxy 127.0.0.1:\d+ \(all_proxy\).*407"):
            WebsocketPolicy(public_name, 8000, connect_timeout=SOON)


def test_a_proxy_that_does_not_answer_is_named(public_name, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Timeout, match=r"through the proxy .* \(http_proxy\) .* no answer"):
            WebsocketPolicy(public_name, 8000, connect_timeout=SHORT)


def test_a_variable_that_holds_no_proxy_is_named(public_name, monkeypatch):
    monkeypatch.setenv("http_proxy", "ftp://user:sesame@proxy.lab")
    with pytest.raises(Disconnected, match="http_proxy is no URL of the schemes http") as failed:
        WebsocketPolicy(public_name, 8000, connect_timeout=SOON)
    assert "sesame" not in str(failed.value)


def test_an_older_websockets_connects_directly_and_says_so(public_name, monkeypatch):
    monkeypatch.setattr(dial, "KNOWS_PROXIES", False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    def refuse(*_, **__):
        raise ConnectionRefusedError("connection refused")

    monkeypatch.setattr("flash_transport.websocket.connection.socket.create_connection", refuse)
    with pytest.raises(Disconnected, match=r"\(http_proxy\) is not used.*websockets 15 or newer"):
        WebsocketPolicy(public_name, 8000, connect_timeout=SHORT)
