"""Crystals of an OPTIMADE server, here one on this machine that answers with real crystals."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from matml.cli.data import data
from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.structures.ingest import ingest
from matml.structures.io.json import fetch_pages
from matml.structures.settings import StructuresSection

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from dialects import optimade_of

COUNT, LABEL, FIELD = 23, "formation_energy_eV_per_atom", "_x_delta_e"


@pytest.fixture(scope="module")
def server():
    """A server of 23 entries, ten on a page; `busy` requests are turned away first."""
    table = pd.read_csv("data/crystals/formation_energy.csv.gz").head(COUNT)
    entries = []
    for number, row in enumerate(table.itertuples()):
        structure = Structure.from_str(row.poscar, fmt="poscar")
        entry = json.loads(optimade_of(structure))["data"][0] | {"id": f"x-{number}"}
        entry["attributes"][FIELD] = getattr(row, LABEL)
        entries.append(entry)

    class Handler(BaseHTTPRequestHandler):
        busy, asked, elsewhere = 0, [], False

        def do_GET(self):
            address = urlsplit(self.path)
            given = {key: value[0] for key, value in parse_qs(address.query).items()}
            Handler.asked.append(given)
            if Handler.busy:
                Handler.busy -= 1
                return self.answer(503, {})
            if "nonsense" in given.get("filter", ""):
                return self.answer(400, {"errors": [{"detail": "no such field: nonsense"}]})
            if address.path != "/base/v1/structures":
                return self.answer(200, {"this": "is no page"})
            start = int(given.get("page_offset", 0))
            link = (
                f"http://127.0.0.1:{self.server.server_port}{address.path}?page_offset={start + 10}"
            )
            if Handler.elsewhere:
                link = "http://elsewhere.invalid/v1/structures"
            last = start + 10 >= COUNT
            return self.answer(
                200,
                {
                    "data": entries[start : start + 10],
                    "links": {"next": None if last else {"href": link}},
                    "meta": {"data_returned": COUNT, "more_data_available": not last},
                },
            )

        def answer(self, code, content):
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    Handler.address = f"http://127.0.0.1:{running.server_port}/base"
    Handler.truth = table[LABEL].tolist()
    yield Handler
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def at_once(server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(fetch_pages, "PAUSE_S", 0.0)
    server.busy, server.elsewhere = 0, False
    server.asked.clear()


def fetched(server, folder, *more):
    words = ["optimade", server.address, "--to", str(folder), "--label", f"{LABEL}={FIELD}", *more]
    result = CliRunner().invoke(data, words)
    if isinstance(result.exception, MatmlError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_all_pages_come_and_are_read_with_their_labels(server, tmp_path):
    server.busy = 2
    output = fetched(server, tmp_path / "pages", "--filter", "nelements<3")
    assert "23 entries of 23 that the query has on 3 pages" in output
    assert server.asked[0]["filter"] == "nelements<3"
    assert FIELD in server.asked[0]["response_fields"]
    labels = tmp_path / "pages/labels.csv"
    ingest([tmp_path / "pages"], tmp_path / "out", StructuresSection(), labels, threads=1)
    table = read_table(tmp_path / "out/structures.parquet")
    assert len(table) == COUNT
    assert table[LABEL].tolist() == server.truth
    # what is there is not asked for again
    server.asked.clear()
    fetched(server, tmp_path / "pages", "--filter", "nelements<3")
    assert server.asked == []


def test_what_broke_off_goes_on_where_it_was(server, tmp_path):
    assert "10 entries of 23" in fetched(server, tmp_path, "--most", "5")
    first = (tmp_path / "page-00001.json").read_bytes()
    server.busy = 99
    with pytest.raises(MatmlError, match=r"answered 503.*run this again: it goes on"):
        fetched(server, tmp_path)
    server.busy = 0
    server.asked.clear()
    assert "23 entries" in fetched(server, tmp_path)
    assert [given["page_offset"] for given in server.asked] == ["10", "20"]
    assert (tmp_path / "page-00001.json").read_bytes() == first
    with pytest.raises(MatmlError, match="holds the pages of another query"):
        fetched(server, tmp_path, "--filter", "nelements<3")


def test_what_a_server_refuses_is_said_once(server, tmp_path):
    with pytest.raises(
        MatmlError, match=r"answered 400 no such field: nonsense; correct address or filter"
    ):
        fetched(server, tmp_path, "--filter", "nonsense=1")
    assert len(server.asked) == 1
    server.elsewhere = True
    with pytest.raises(MatmlError, match="is not one of this server"):
        fetched(server, tmp_path / "elsewhere")
    server.elsewhere = False
    with pytest.raises(MatmlError, match="no entry has a value of _y"):
        fetched(server, tmp_path / "field", "--label", "hardness=_y")
    with pytest.raises(MatmlError, match="no page of OPTIMADE structures"):
        fetch_pages.fetch_pages(server.address + "/x", "", tmp_path / "x", 5, {})
    with pytest.raises(MatmlError, match="give an address, or one of alexandria"):
        fetch_pages.fetch_pages("materials", "", tmp_path / "y", 5, {})
