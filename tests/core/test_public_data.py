"""Public data sets by name, against a server on this machine."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.public_data import RECORD, read_registry

CONTENT = b"alloy,temperature_C,time_s,ttt_fraction\nA,600,10,0.5\n" * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        Handler.requests += 1
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        # a server that dies in the middle has promised more than it sends
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path == "/broken" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def fetch(server, tmp_path, monkeypatch):
    """Call `matml data fetch set` of a set at a path of the server; output, and the folder."""
    monkeypatch.setenv("NO_PROXY", "*")

    def call(path, *arguments, sha256="", base=server):
        registry = tmp_path / "sets.toml"
        registry.write_text(
            f'[set]\ntitle = "t"\nurl = "{base}{path}"\nfile = "set.csv"\n'
            f'page = "https://example.org/set"\ncite = "Someone 2020"\nsha256 = "{sha256}"\n'
        )
        rest = ["--to", str(tmp_path / "there"), "--registry", str(registry), *arguments]
        result = CliRunner().invoke(cli, ["data", "fetch", "set", *rest])
        if isinstance(result.exception, MatmlError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    call.folder = tmp_path / "there"
    return call


def test_a_pinned_set_comes_once_and_is_checked_again(fetch):
    assert "downloaded, checksum as expected (265,000 bytes)" in fetch("/set", sha256=SHA)
    assert (fetch.folder / "set.csv").read_bytes() == CONTENT
    assert sorted(p.name for p in fetch.folder.iterdir()) == [RECORD, "set.csv"]
    record = json.loads((fetch.folder / RECORD).read_text())["set"]
    assert record["sha256"] == SHA
    assert record["bytes"] == len(CONTENT)
    before = Handler.requests
    assert "is there already" in fetch("/set", sha256=SHA)
    assert Handler.requests == before
    (fetch.folder / "set.csv").write_bytes(CONTENT[:-1])
    with pytest.raises(MatmlError, match="and fetch it again"):
        fetch("/set", sha256=SHA)


def test_what_differs_is_not_kept(fetch):
    with pytest.raises(MatmlError, match=f"is {SHA}, expected {'0' * 64}.*nothing was kept"):
        fetch("/set", sha256="0" * 64)
    assert not fetch.folder.exists()


def test_without_a_published_checksum_the_user_repeats_it(fetch):
    with pytest.raises(MatmlError, match=f"no checksum .* --sha256 {SHA}"):
        fetch("/set")
    assert not fetch.folder.exists()
    assert "downloaded" in fetch("/set", "--sha256", SHA.upper())
    record = json.loads((fetch.folder / RECORD).read_text())["set"]
    assert record["checksum_from"] == "given by the user at the first download"
    # from then on the record pins it
    assert "is there already" in fetch("/set")
    (fetch.folder / "set.csv").unlink()
    assert "downloaded" in fetch("/set")
    (fetch.folder / "set.csv").write_text("else")
    with pytest.raises(MatmlError, match=f"expected {SHA}"):
        fetch("/set")


def test_a_pinned_checksum_is_not_overruled(fetch):
    with pytest.raises(MatmlError, match="leave the option out"):
        fetch("/set", "--sha256", "1" * 64, sha256=SHA)
    with pytest.raises(MatmlError, match="64 hexadecimal digits"):
        fetch("/set", "--sha256", "abc")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/missing", "the server answered 404"), ("/broken", "the connection broke off")],
)
def test_a_failed_download_leaves_nothing(fetch, server, path, reason):
    with pytest.raises(MatmlError, match=reason) as caught:
        fetch(path, sha256=SHA)
    for part in (f"{server}{path}", "https://example.org/set", str(fetch.folder / "set.csv")):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not fetch.folder.exists()


def test_offline_says_so_and_takes_a_file_that_was_brought(fetch):
    nobody = "http://127.0.0.1:9"
    fetch.folder.mkdir()
    with pytest.raises(MatmlError, match="no connection: offline"):
        fetch("/set", sha256=SHA, base=nobody)
    assert list(fetch.folder.iterdir()) == []
    (fetch.folder / "set.csv").write_bytes(CONTENT)
    assert "is there already, checksum as expected" in fetch("/set", sha256=SHA, base=nobody)


def test_the_registry_of_matml(tmp_path):
    sets = read_registry()
    for item in sets.values():
        assert item.url.startswith("https://")
        # a checksum says where it was published
        assert bool(item.sha256) == bool(item.checksum_from)
        assert not item.sha256 or len(item.sha256) == 64
    assert "k7zspbmyvf" in sets["stainless_ttt"].url
    listed = CliRunner().invoke(cli, ["data", "list"]).output
    assert "stainless_ttt: " in listed
    assert "no published SHA-256" in listed
    with pytest.raises(MatmlError, match=r"unknown; there are .*stainless_ttt"):
        CliRunner().invoke(cli, ["data", "fetch", "nothing"], catch_exceptions=False)
    bad = tmp_path / "bad.toml"
    for text, message in (
        ("[a", "is not valid TOML"),
        ('[a]\ntitle = "x"\n', "lacks cite, file, page, url"),
        ('[a]\ntitle="x"\nurl="u"\nfile="../f"\npage="p"\ncite="c"\n', "has a folder"),
        ('[a]\ntitle="x"\nurl="u"\nfile="f"\npage="p"\ncite="c"\nsha="1"\n', "unknown key"),
    ):
        bad.write_text(text)
        with pytest.raises(MatmlError, match=message):
            read_registry(bad)
