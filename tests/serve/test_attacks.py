"""What strangers try on the real server: each ends in its documented status, and the proxy stays small."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from serve.clip_host import INTERNAL, ClipHost

MIB = 1 << 20
GREEDY = {"question": "[emotion] Which?", "temperature": 0, "max_tokens": 8}
PROXY_GROWTH_BYTES = 192 * MIB  # one body, which may have 88, is on its way at a time
# Of each; the test server gives a body 2 s, and a question needs a fraction of one.
DEADLINE_S = 30


def processes_named(part: str) -> list[psutil.Process]:
    ours = psutil.Process().children(recursive=True)
    return [each for each in ours if part in each.name() or part in " ".join(each.cmdline())]


def private_bytes(process: psutil.Process) -> int:
    """Without what it shares: pages of Ray's object store stay mapped, whoever's they are."""
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


@pytest.fixture(scope="module", autouse=True)
def flat_proxy(server_url: str) -> Iterator[psutil.Process]:
    """Everything in this file goes through one proxy, which must not keep any of it."""
    (proxy,) = processes_named("ProxyActor")
    before_bytes = private_bytes(proxy)
    yield proxy
    assert private_bytes(proxy) - before_bytes < PROXY_GROWTH_BYTES


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < DEADLINE_S


@pytest.fixture(scope="module")
def address(server_url: str) -> tuple[str, int]:
    url = httpx.URL(server_url)
    assert url.port is not None
    return url.host, url.port


def ask(http: httpx.Client, path: str | Path, **fields: Any) -> httpx.Response:
    return http.post("/process_video", json={"video_path": str(path), **GREEDY, **fields})


def raw(address: tuple[str, int], request: bytes) -> bytes:
    """The beginning of what the server answers to these bytes."""
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        client.sendall(request)
        return client.recv(1 << 16)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/etc/passwd", 403),
        ("{root}/../../../../../etc/passwd", 403),
        ("{root}/%2e%2e/%2e%2e/etc/passwd", 404),  # a name like any other: nothing is unquoted
        ("{root}/0.mp4/../../../../../../etc/passwd", 403),
        ("/proc/self/environ", 403),
        ("/dev/zero", 403),
        ("{root}/\x00/etc/passwd", 422),
        ("file:///etc/passwd", 422),
        ("../../etc/passwd", 422),
        ("http://127.0.0.1:8265/", 422),
        ("ftp://localhost/clip.mp4", 422),
    ],
)
def test_paths_stay_within_the_roots(
    http: httpx.Client, clips_root: Path, path: str, status: int
) -> None:
    response = ask(http, path.replace("{root}", str(clips_root)))
    assert response.status_code == status
    assert "root:" not in response.text


def test_a_symlink_and_a_linked_folder_lead_nowhere(
    http: httpx.Client, clips_root: Path, tmp_path: Path, clip_files: list[Path]
) -> None:
    (tmp_path / "secret.mp4").write_bytes(clip_files[0].read_bytes())
    link, folder = clips_root / "secret-link.mp4", clips_root / "secret-folder"
    link.symlink_to(tmp_path / "secret.mp4")
    folder.symlink_to(tmp_path)
    for path in (link, folder / "secret.mp4"):
        assert ask(http, path).status_code == 403


async def test_a_url_is_fetched_from_the_allowed_host(
    server_url: str, clip_host: ClipHost, label_clips: dict[str, Path]
) -> None:
    clip = label_clips["angry"].read_bytes()
    async with clip_host.listening(clip) as came, httpx.AsyncClient(timeout=30) as client:
        url = f"{clip_host.url}/a.mp4"
        asked = {"video_path": url, **GREEDY}
        answer = await client.post(f"{server_url}/process_video", json=asked)
        assert (answer.status_code, answer.json()["response"]) == (200, "angry")
        part = {"type": "video_url", "video_url": {"url": url}}
        text = {"type": "text", "text": GREEDY["question"]}
        chat = {
            "model": "emotion-llama",
            "messages": [{"role": "user", "content": [part, text]}],
            "temperature": 0,
        }
        answer = await client.post(f"{server_url}/v1/chat/completions", json=chat)
        assert answer.json()["choices"][0]["message"]["content"] == "angry"
        scores = await client.post(f"{server_url}/v1/emotions", json={"video_path": url})
        assert scores.json()["emotion"] == "angry"
    assert len(came) == 3


@pytest.mark.parametrize(
    "target",
    [
        f"https://{INTERNAL}:PORT/",
        "https://127.0.0.1:PORT/",
        "https://2130706433:PORT/",
        "https://0x7f000001:PORT/",
        "https://0177.0.0.1:PORT/",
        "https://127.1:PORT/",
        "https://[::1]:PORT/",
        "https://[::ffff:127.0.0.1]:PORT/",
        "https://[::ffff:7f00:1]:PORT/",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost.evil.example:PORT/",
        "https://localhost@evil.example:PORT/",
        "https://localhost:8265/",
        "http://localhost:PORT/",
        "file:///etc/passwd",
        "gopher://localhost:PORT/",
    ],
)
@pytest.mark.parametrize("hop", ["first", "redirect"])
async def test_urls_lead_nowhere_else(
    server_url: str, clip_host: ClipHost, target: str, hop: str
) -> None:
    url = target.replace("PORT", str(clip_host.port))
    if hop == "redirect":
        url = str(httpx.URL(f"{clip_host.url}/", params={"to": url}))
    async with clip_host.listening(b"a secret") as came, httpx.AsyncClient(timeout=30) as client:
        asked = {"video_path": url, **GREEDY}
        response = await client.post(f"{server_url}/process_video", json=asked)
    # Other schemes are no clip at all; the rest is forbidden.
    is_https = url.startswith("https:")
    assert response.status_code == (403 if is_https else 422), response.text
    assert len(came) == (1 if hop == "redirect" else 0)
    assert "secret" not in response.text


def test_ten_gigabytes_are_refused_by_their_header(address: tuple[str, int]) -> None:
    head = f"POST /process_video HTTP/1.1\r\nHost: x\r\nContent-Length: {10 << 30}\r\n\r\n"
    assert raw(address, head.encode() + b"x" * 1000).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "begin",
    [b"", b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'],
    ids=["chunks", "a form"],
)
def test_a_body_without_end_is_cut_off(
    address: tuple[str, int], flat_proxy: psutil.Process, begin: bytes
) -> None:
    head = (
        "POST /process_video HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    before_bytes = peak_bytes = private_bytes(flat_proxy)
    piece = b"x" * (MIB - len(begin))
    chunk = f"{MIB:x}\r\n".encode() + begin + piece + b"\r\n"
    deadline = time.monotonic() + DEADLINE_S
    with socket.create_connection(address, timeout=DEADLINE_S) as client:
        client.sendall(head.encode())
        with pytest.raises(OSError):  # it hangs up
            while time.monotonic() < deadline:
                client.sendall(chunk)
                peak_bytes = max(peak_bytes, private_bytes(flat_proxy))
    assert peak_bytes - before_bytes < PROXY_GROWTH_BYTES


def test_a_body_just_too_large_gets_its_answer(server_url: str) -> None:
    """The client is still sending when it is refused: hanging up at once would cost it the reason."""
    pieces = (b"x" * MIB for _ in range(100))
    response = httpx.post(f"{server_url}/process_video", content=pieces, timeout=30)
    assert response.status_code == 413
    assert response.headers["X-Error-Code"] == "body_too_large"
    assert response.headers["X-Request-Id"]
    assert response.headers["Connection"] == "close"


def test_a_form_that_stops_short_is_422(http: httpx.Client) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\nbytes'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = http.post("/process_video", content=form, headers=headers)
    assert response.status_code == 422


async def test_bodies_that_trickle_are_cut_off_and_nobody_else_waits(
    server_url: str, address: tuple[str, int], clip_files: list[Path]
) -> None:
    head = b"POST /process_video HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    slow = [await asyncio.open_connection(*address) for _ in range(100)]
    for _, writer in slow:
        writer.write(head)
    async with httpx.AsyncClient(timeout=30) as client:
        asked = {"video_path": str(clip_files[0]), **GREEDY}
        answer = await client.post(f"{server_url}/process_video", json=asked)
    assert answer.status_code == 200
    statuses = [await asyncio.wait_for(reader.readline(), DEADLINE_S) for reader, _ in slow]
    for _, writer in slow:
        writer.close()
    assert {status.split()[1] for status in statuses} == {b"408"}


def test_a_question_of_100_000_characters_is_422(
    http: httpx.Client, clip_files: list[Path]
) -> None:
    response = ask(http, clip_files[0], question="x" * 100_000)
    assert response.status_code == 422
    assert "100000 characters; the limit is 20000" in response.json()["details"]


@pytest.mark.parametrize("mark", ["<VideoHere>", "<FeatureHere>", "<s>", "</s>", "<unk>", "[INST]"])
def test_a_mark_in_a_question_is_text(
    http: httpx.Client, clip_files: list[Path], mark: str
) -> None:
    plain, marked = (
        ask(http, clip_files[0], question=question, details=True).json()["details"]
        for question in ("Which?", f"Which? {mark}")
    )
    special = {0, 1, 2, max(plain["prompt_token_ids"])}  # <unk>, <s>, </s>, and the clip's mark
    for token in special:
        assert marked["prompt_token_ids"].count(token) == plain["prompt_token_ids"].count(token)
    assert len(marked["prompt_token_ids"]) > len(plain["prompt_token_ids"])


@pytest.mark.parametrize(
    "line",
    [
        b"X-Request-Id: a\nSet-Cookie: b=1",
        b"X-Request-Id: a\rSet-Cookie: b=1",
        b"X-Request-Id: a%0d%0aSet-Cookie:%20b=1",
        b"X-Request-Id: a\x00b",
        b"X-Request-Id: " + b"a" * 60_000,
        b"Origin: a\nSet-Cookie: b=1",
    ],
    ids=["LF", "CR", "quoted", "zero", "long", "Origin"],
)
def test_headers_come_back_in_no_other_shape(address: tuple[str, int], line: bytes) -> None:
    answer = raw(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
    assert answer[:12] in (b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 431")
    head = answer.split(b"\r\n\r\n")[0].lower()
    assert b"\nset-cookie" not in head
    assert b"\rset-cookie" not in head


def test_two_lengths_are_no_second_request(address: tuple[str, int]) -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    head = (
        b"POST /process_video HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Length: %d\r\n\r\n0\r\n\r\n" % (5 + len(smuggled))
    )
    answer = raw(address, head + smuggled)
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"owned_by" not in answer


def test_nothing_of_the_server_is_told(http: httpx.Client, clips_root: Path) -> None:
    """No path outside the roots, no class of ours, no line of a traceback."""
    answers = [
        http.get("/no/such/route"),
        http.post("/process_video", content=b"\xff\xfe"),
        http.post("/v1/chat/completions", json={"model": "x"}),
        ask(http, clips_root / "none.mp4"),
        ask(http, "/root/none.mp4"),
    ]
    for answer in answers:
        assert answer.status_code in (400, 403, 404, 422)
        for word in ("Traceback", "serve_app", "site-packages", os.getcwd(), ".py"):
            assert word not in answer.text
