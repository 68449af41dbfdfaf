"""configs/nginx.conf in a real nginx in front of the real server, as docs/tls.md sets it up."""

import itertools
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from lib.ports import free_port

from serve_app.settings import MIB, LimitSettings

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "nginx.conf"
DOCS = ROOT / "docs" / "tls.md"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
OPENSSL = shutil.which("openssl")
CERTIFICATE = "/etc/emotion-llama/tls"
BODY_FOLDER, ANSWER_FOLDER = "/var/lib/nginx/body", "/var/lib/nginx/proxy"
QUESTION = "[emotion] What is the emotion expressed in this video?"
REASON = "[reason] Why does the person feel this way?"
LIMIT_BYTES = LimitSettings().max_body_bytes

needs_nginx = pytest.mark.skipif(
    NGINX is None or OPENSSL is None, reason="nginx or openssl is not installed"
)


@dataclass(frozen=True)
class Proxy:
    """An nginx that runs, and the folder it may write into."""

    folder: Path
    https_port: int
    guide_port: int
    http_port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def error_log(self) -> Path:
        return self.folder / "error.log"

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "tls" / "cert.pem"))

    def files_were_made(self) -> bool:
        """Even one that was unlinked at once leaves a change in its folder's time."""
        folders = [self.folder / "body", self.folder / "answer"]
        return any(each.stat().st_mtime_ns != 0 or any(each.iterdir()) for each in folders)


@contextmanager
def running_nginx(config: str, server_url: str, folder: Path) -> Iterator[Proxy]:
    """The configuration with its paths, ports and certificate in the folder."""
    proxy = Proxy(folder, free_port(), free_port(), free_port())
    make_certificate(folder / "tls")
    replaced = {
        CERTIFICATE: str(folder / "tls"),
        "/var/log/nginx/error.log": str(proxy.error_log),
        "/run/nginx.pid": str(folder / "nginx.pid"),
        # The last three are of modules that the configuration leaves alone.
        f"client_body_temp_path {BODY_FOLDER};": f"client_body_temp_path {folder}/body;"
        f"fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;",
        ANSWER_FOLDER: f"{folder}/answer",
        "127.0.0.1:7887": server_url.removeprefix("http://"),
        "listen 80;": f"listen 127.0.0.1:{proxy.http_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{proxy.https_port} ssl;",
        "# listen 203.0.113.1:7889 ssl;": f"listen 127.0.0.1:{proxy.guide_port} ssl;",
    }
    for shipped, ours in replaced.items():
        assert config.count(shipped) >= 1, f"{shipped} is not in the configuration"
        config = config.replace(shipped, ours)
    (folder / "nginx.conf").write_text(config)
    # As root its workers would be another user's, to whom this run's folder is closed.
    user = " user root;" if os.geteuid() == 0 else ""
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    command += ["-e", str(proxy.error_log), "-g", f"daemon off;{user}"]
    with subprocess.Popen(command) as nginx:
        try:
            wait_for_port(proxy.https_port, nginx)
            for made in ("body", "answer"):
                os.utime(folder / made, ns=(0, 0))
            yield proxy
        finally:
            nginx.terminate()


def make_certificate(folder: Path) -> None:
    """By the documentation's own command."""
    folder.mkdir()
    (command,) = re.findall(r"^openssl req (?:.*\\\n)*.*$", DOCS.read_text(), re.MULTILINE)
    command = command.replace(CERTIFICATE, str(folder))
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)


def wait_for_port(port: int, nginx: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        assert nginx.poll() is None, "nginx did not start"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("nginx does not listen")


@pytest.fixture(scope="module")
def proxy(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    with running_nginx(CONFIG.read_text(), server_url, folder) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def https(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, verify=proxy.client_context(), timeout=60) as client:
        yield client


def large_body(num_bytes: int) -> dict[str, object]:
    headers = {"Content-Type": "application/octet-stream"}
    return {"content": bytes(num_bytes), "headers": headers, "params": {"question": "?"}}


def in_pieces(data: bytes) -> Iterator[bytes]:
    """Of unknown length: HTTP's chunked transfer encoding."""
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def test_its_limits_are_the_servers() -> None:
    limits = LimitSettings()
    config = CONFIG.read_text()
    (size_mib,) = re.findall(r"client_max_body_size (\d+)m;", config)
    (timeout_s,) = re.findall(r"proxy_read_timeout (\d+)s;", config)
    assert int(size_mib) * MIB == limits.max_body_bytes
    assert limits.request_timeout_s < int(timeout_s) <= limits.request_timeout_s + 10


@needs_nginx
def test_questions_and_uploads_are_answered_through_tls(
    proxy: Proxy, https: httpx.Client, label_clips: dict[str, Path]
) -> None:
    clip = label_clips["angry"]
    asked = {"question": QUESTION, "temperature": "0"}
    by_path = https.post(
        "/process_video", json={"video_path": str(clip), "question": QUESTION, "temperature": 0}
    )
    by_form = https.post("/process_video", data=asked, files={"file": clip.read_bytes()})
    media_type = {"Content-Type": "video/mp4"}
    whole, pieces = (
        https.post("/process_video", params=asked, content=content, headers=media_type)
        for content in (clip.read_bytes(), in_pieces(clip.read_bytes()))
    )
    for response in (by_path, by_form, whole, pieces):
        assert response.json() == {"response": "angry"}
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
    guide_url = f"https://127.0.0.1:{proxy.guide_port}/api/predict/"
    gradio = httpx.post(
        guide_url, json={"data": [str(clip), QUESTION]}, verify=proxy.client_context(), timeout=60
    )
    assert gradio.json()["data"] == ["angry"]


@needs_nginx
def test_a_stream_arrives_piece_by_piece(https: httpx.Client, label_clips: dict[str, Path]) -> None:
    part = {"type": "video_url", "video_url": {"url": str(label_clips["fear"])}}
    body = {
        "model": "emotion-llama",
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": REASON}]}],
        "temperature": 0,
        "stream": True,
        "max_tokens": 400,
        "repetition_penalty": 0.01,  # goes on to max_tokens
    }
    arrived_s, num_events = [], []
    with https.stream("POST", "/v1/chat/completions", json=body) as response:
        for piece in response.iter_raw():
            arrived_s.append(time.monotonic())
            num_events.append(piece.count(b"data: "))
    assert response.status_code == 200 and piece.endswith(b"data: [DONE]\n\n")
    assert sum(num_events) > 100
    assert statistics.median(num_events) <= 2
    # Spread over the whole answer: no stretch of it was held back and sent at once.
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(arrived_s)]
    assert max(gaps_s) < (arrived_s[-1] - arrived_s[0]) / 4


@needs_nginx
@pytest.mark.parametrize("path", ["/process_video", "/v1/emotions"])
def test_a_body_over_the_limit_is_413_in_the_routes_own_form(
    https: httpx.Client, path: str
) -> None:
    response = https.post(path, **large_body(LIMIT_BYTES + 1))  # type: ignore[arg-type]
    assert response.status_code == 413
    assert response.headers["X-Error-Code"] == "body_too_large"
    error = response.json()["error"]
    assert error == "Request too large" if path == "/process_video" else error["code"]


@needs_nginx
def test_a_body_of_the_limit_is_the_servers_to_judge(https: httpx.Client) -> None:
    response = https.post("/process_video", **large_body(LIMIT_BYTES))  # type: ignore[arg-type]
    assert response.headers["X-Error-Code"] == "clip_too_large"


@needs_nginx
def test_plain_http_is_sent_to_https(proxy: Proxy) -> None:
    plain = httpx.post(f"http://127.0.0.1:{proxy.http_port}/process_video?a=1", json={})
    assert plain.status_code == 308
    assert plain.headers["Location"] == "https://127.0.0.1/process_video?a=1"
    on_tls = httpx.post(f"http://127.0.0.1:{proxy.guide_port}/api/predict/", json={})
    assert on_tls.status_code == 308
    assert on_tls.headers["Location"] == f"https://127.0.0.1:{proxy.guide_port}/api/predict/"


@needs_nginx
@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
    ids=lambda value: value.name if isinstance(value, ssl.TLSVersion) else "",
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(proxy: Proxy, version: ssl.TLSVersion, is_taken: bool) -> None:
    context = proxy.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")  # by default no client of today would even offer 1.1
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", proxy.https_port)) as plain:
        if is_taken:
            with context.wrap_socket(plain, server_hostname="localhost") as secured:
                assert secured.version() == version.name.replace("_", ".")
        else:
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                context.wrap_socket(plain, server_hostname="localhost")


@needs_nginx
def test_nothing_of_a_clip_or_a_question_was_written(proxy: Proxy, https: httpx.Client) -> None:
    """Last of the shared nginx: whatever went through it before counts, too."""
    asked = {"question": "a-secret-question"}
    media_type = {"Content-Type": "video/mp4"}
    for content in (bytes(4 * MIB), in_pieces(bytes(4 * MIB)), bytes(LIMIT_BYTES + 1)):
        https.post("/process_video", params=asked, content=content, headers=media_type)
    assert not proxy.files_were_made()
    written = [path for path in proxy.folder.rglob("*") if path.is_file()]
    assert {path.name for path in written} == {
        *("nginx.conf", "nginx.pid", "cert.pem", "key.pem", "error.log")
    }
    assert "a-secret-question" not in proxy.error_log.read_text()


@needs_nginx
@pytest.mark.parametrize(
    "line", ["proxy_request_buffering off;", "proxy_http_version 1.1;"], ids=lambda line: line
)
def test_without_these_lines_a_body_would_be_written(
    server_url: str, tmp_path: Path, line: str
) -> None:
    config = CONFIG.read_text().replace(line, "")
    with (
        running_nginx(config, server_url, tmp_path) as buffering,
        httpx.Client(verify=buffering.client_context(), timeout=60) as client,
    ):
        media_type = {"Content-Type": "video/mp4"}
        url = f"{buffering.url}/process_video?question=what"
        client.post(url, content=in_pieces(bytes(MIB)), headers=media_type)
        assert buffering.files_were_made()
