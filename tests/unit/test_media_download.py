"""Pinned files are fetched whole, checked, taken up where they stopped, or refused with what to do."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from avatar.errors import InputError
from avatar.events import Event, Progress
from avatar.media.download import RemoteFile, cache_folder, fetched

CONTENT = bytes(range(256)) * 1200


@dataclass
class Server:
    url: str
    content: bytes = CONTENT
    breaks_after: int | None = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    facts = Server(url="")

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            facts.asked.append(wanted)
            if self.path == "/elsewhere":
                self.send_response(302)
                self.send_header("Location", "http://example.invalid/file")
                self.end_headers()
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            body = facts.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(facts.content) - 1}/{len(facts.content)}")
            self.end_headers()
            self.wfile.write(body[: facts.breaks_after])

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        facts.url = f"http://127.0.0.1:{running.server_port}/model.task"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield facts
        running.shutdown()
        thread.join()


def wanted(server: Server) -> RemoteFile:
    return RemoteFile(url=server.url, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest(), name="model.task")


def test_a_file_is_fetched_once_and_progress_is_told(server, tmp_path):
    events: list[Event] = []
    path = fetched(wanted(server), folder=tmp_path / "cache", sink=events.append)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["model.task"]
    done = [e.done for e in events if isinstance(e, Progress)]
    assert done[0] == 0
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)
    assert fetched(wanted(server), folder=tmp_path / "cache") == path
    assert len(server.asked) == 1


def test_a_download_that_broke_off_goes_on_where_it_stopped(server, tmp_path):
    server.breaks_after = 100_000
    with pytest.raises(InputError, match="100000 of 307200"):
        fetched(wanted(server), folder=tmp_path)
    assert not (tmp_path / "model.task").exists()
    server.breaks_after = None
    assert fetched(wanted(server), folder=tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=100000-"]


def test_an_interrupt_leaves_no_file_of_that_name(server, tmp_path):
    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.done > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetched(wanted(server), folder=tmp_path, sink=interrupt)
    assert not (tmp_path / "model.task").exists()
    assert fetched(wanted(server), folder=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"more"], ids=["changed", "longer"])
def test_another_file_is_refused_with_what_to_do(server, tmp_path, content):
    server.content = content
    with pytest.raises(InputError, match=r"another file; download http.*307200 bytes, sha256 .*model\.task"):
        fetched(wanted(server), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "model.task").write_bytes(b"x" * len(CONTENT))
    assert fetched(wanted(server), folder=tmp_path).read_bytes() == CONTENT


def test_without_a_network_it_is_said_what_to_download_to_where(tmp_path, server):
    gone = replace(wanted(server), url="http://127.0.0.1:9/model.task")
    with pytest.raises(InputError) as caught:
        fetched(gone, folder=tmp_path)
    for fact in (gone.url, str(gone.size), gone.sha256, str(tmp_path / "model.task")):
        assert fact in str(caught.value)


def test_only_https_is_fetched_and_no_redirect_leads_elsewhere(server, tmp_path):
    for url in ("http://example.invalid/model.task", "file:///etc/hostname", "ftp://127.0.0.1/x"):
        with pytest.raises(InputError, match="only https"):
            fetched(replace(wanted(server), url=url), folder=tmp_path)
    with pytest.raises(InputError, match="only https"):
        fetched(replace(wanted(server), url=server.url.replace("model.task", "elsewhere")), folder=tmp_path)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match="cache"):
        fetched(wanted(server), folder=tmp_path / "cache")


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("AVATAR_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("AVATAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "avatar"
