"""The page's server: bound to the loopback interface, refuses all other hosts."""

import logging
import threading
import webbrowser
from dataclasses import asdict
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, dcc, no_update
from flask import abort, request
from werkzeug.serving import BaseWSGIServer, make_server

from matml.app import page
from matml.app.answer import answer, archive, in_words
from matml.app.question import Question
from matml.app.record import Dropped, pair
from matml.core.text.encoding import decode

HOST = "127.0.0.1"
HOSTS = {HOST, "localhost"}
LONGEST = 60.0
"""Seconds that are waited for the last answers."""
Cells = {"type": "cell", "row": ALL, "column": ALL}
Doubts = {"type": "doubt", "line": ALL}
Ranges = {"type": "range", "name": ALL}


class Running:
    """Requests that are being answered: the interpreter must not end while one is inside torch."""

    def __init__(self) -> None:
        self._changed, self._count, self._closed = threading.Condition(), 0, False

    def begin(self) -> None:
        """Count a request; refused after `close`."""
        with self._changed:
            if self._closed:
                abort(503)
            self._count += 1

    def end(self, _error: BaseException | None) -> None:
        """Count a request off."""
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse further requests, and wait for those that are being answered."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._count <= 0, LONGEST)


def make_app() -> Dash:
    """Return the page with what it does."""
    app = Dash(
        "matml.app",
        title="matml: one alloy",
        update_title="",
        serve_locally=True,
        suppress_callback_exceptions=True,
    )
    app.layout = page.layout()
    running = Running()
    app.server.before_request(running.begin)
    app.server.before_request(_refuse_other_hosts)
    app.server.teardown_request(running.end)
    app.server.extensions["running"] = running
    _read(app)
    _answer(app)
    _files(app)
    return app


def _refuse_other_hosts() -> None:
    """Refuse what another site's name leads here."""
    if request.host.rsplit(":", 1)[0] not in HOSTS:
        abort(403)


def _read(app: Dash) -> None:
    """Add: text to fields, and fields to text."""

    @app.callback(
        Output("grid", "children"),
        Output("read", "children"),
        Input("text", "value"),
        State(Cells, "value"),
        prevent_initial_call=True,
    )
    def fields(text: str | None, cells: list[Any]) -> tuple[Any, Any]:
        try:
            table = Question(text or "").table()
        except Exception as error:
            return None, in_words(error)
        if table.to_numpy().ravel().tolist() == cells:
            return no_update, no_update
        if len(table) > page.MOST_EDITED:
            return None, f"{len(table)} points"
        return page.grid(table), ""

    @app.callback(
        Output("text", "value", allow_duplicate=True),
        Input(Cells, "value"),
        State("text", "value"),
        prevent_initial_call=True,
    )
    def text(cells: list[Any], given: str | None) -> Any:
        if not cells:
            return no_update
        table = Question(given or "").table()
        cells = ["" if cell is None else str(cell) for cell in cells]
        same = table.to_numpy().ravel().tolist() == cells
        return no_update if same else page.text_of_cells(list(table.columns), cells)


def _answer(app: Dash) -> None:
    """Add: a quick answer to what is given, then the whole one."""

    @app.callback(
        Output("said", "children"),
        Output("figures", "children"),
        Output("parameters", "children"),
        Output("asked", "data"),
        Output("keep", "hidden"),
        Input("text", "value"),
        Input("prior", "value"),
        Input("composition", "value"),
        prevent_initial_call=True,
    )
    def quick(text: str | None, prior: str, composition: str | None) -> tuple[Any, ...]:
        if not (text or "").strip():
            return "", [], [], None, True
        question = Question(text or "", prior, composition or "")
        try:
            found = answer(question, False)
            drawn = page.figures(found.figures())
            rows = page.titled(f"Parameters, under {found.under()}", found.parameters())
            return "", drawn, rows, asdict(question), False
        except Exception as error:
            return in_words(error), no_update, no_update, None, True

    @app.callback(
        Output("figures", "children", allow_duplicate=True),
        Output("notes", "children"),
        Output("next", "children"),
        Output("commands", "children"),
        Output(Doubts, "children"),
        Input("asked", "data"),
        prevent_initial_call=True,
    )
    def whole(given: dict[str, str] | None) -> tuple[Any, ...]:
        places = ctx.outputs_list[-1]
        nothing: tuple[Any, ...] = no_update, [], [], "", ["" for _ in places]
        if given is None:
            return nothing
        question = Question(**given)
        try:
            found = answer(question, True)
            doubts = found.doubts()
            return (
                page.figures(found.figures()),
                page.listed("What to know of it", found.alloy.notes),
                page.titled("Measure next", found.proposals()),
                "\n".join(question.commands(found.priors)),
                [doubts.get(place["id"]["line"], "") for place in places],
            )
        except Exception as error:
            return no_update, page.listed("What failed", [in_words(error)]), *nothing[2:]

    @app.callback(
        Output("archive", "data"),
        Output("said", "children", allow_duplicate=True),
        Input("save", "n_clicks"),
        State("asked", "data"),
        prevent_initial_call=True,
    )
    def save(_clicks: int, given: dict[str, str] | None) -> tuple[Any, Any]:
        if given is None:
            return no_update, no_update
        try:
            return dcc.send_bytes(archive(Question(**given)), "alloy.zip"), ""
        except Exception as error:
            return no_update, in_words(error)


def _files(app: Dash) -> None:
    """Add: a file that is dropped, and the conversion of an instrument's."""

    @app.callback(
        Output("text", "value", allow_duplicate=True),
        Output("record", "children"),
        Output("file", "data"),
        Input("upload", "contents"),
        State("upload", "filename"),
        prevent_initial_call=True,
    )
    def dropped(url: str, name: str) -> tuple[Any, ...]:
        file = Dropped.of(name, url)
        try:
            text = decode(file.content)
        except ValueError as error:
            remedy = "save it as CSV or text, a workbook sheet by sheet"
            return no_update, f"{name}: {error}; {remedy}", None
        try:
            Question(text).kind()
        except Exception as not_points:
            try:
                told = file.understood()
            except Exception as no_record:
                both = f"no table of points ({in_words(not_points)}), and {in_words(no_record)}"
                return no_update, f"{name}: {both}", None
            about = {"name": name, "url": url, "role": told["role"]}
            return no_update, page.record(name, told), about
        return text, [], None

    @app.callback(
        Output("text", "value", allow_duplicate=True),
        Output("said", "children", allow_duplicate=True),
        Input("convert", "n_clicks"),
        State("file", "data"),
        State("segment", "value"),
        State(Ranges, "value"),
        State(Ranges, "id"),
        prevent_initial_call=True,
    )
    def convert(
        clicks: int | None, file: dict[str, str], segment: str, values: list, names: list
    ) -> tuple[Any, Any]:
        if not clicks:
            return no_update, no_update
        try:
            wanted = [of["name"] for of in names]
            ranges = {n: pair(text, n) for n, text in zip(wanted, values, strict=True)}
            made = Dropped.of(file["name"], file["url"]).points(
                file["role"], ranges, segment or None
            )
        except Exception as error:
            return no_update, in_words(error)
        return made, ""


def bind(port: int) -> BaseWSGIServer:
    """Return the server, listening on the loopback interface; port 0 is any free one.

    Raises
    ------
    OSError
        Where the port is taken.
    """
    # every request would be a line
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    return make_server(HOST, port, make_app().server, threaded=True)


def serve(server: BaseWSGIServer, show: bool) -> None:
    """Serve until interrupted, and open the page in the browser where it is to be shown."""
    if show:
        webbrowser.open(address(server))
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        stop(server)


def stop(server: BaseWSGIServer) -> None:
    """Close the server once the last answers are given."""
    server.server_close()
    server.app.extensions["running"].close()  # type: ignore[attr-defined]


def address(server: BaseWSGIServer) -> str:
    """Return where the page is."""
    return f"http://{HOST}:{server.server_port}/"
