"""Pages of an OPTIMADE server (specification 1.2), saved to disk as they come."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json, write_table, write_text
from matml.structures.io.json.databases import entry_suffixes

log = logging.getLogger(__name__)

SERVERS = {
    "alexandria": "https://alexandria.icams.rub.de/pbe",
    "cod": "https://www.crystallography.net/cod/optimade",
    "jarvis": "https://jarvis.nist.gov/optimade/jarvisdft",
    "mp": "https://optimade.materialsproject.org",
    "oqmd": "https://oqmd.org/optimade",
}
"""Base addresses, as the list of providers of the OPTIMADE consortium gives them."""
FIELDS = (
    *("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species", "nsites"),
    *("dimension_types", "structure_features", "assemblies", "chemical_formula_reduced"),
)
STATE, LABELS = ".pages.json", "labels.csv"
"""A folder of crystals passes over names with a dot."""
PAGE_LIMIT = 100
TIMEOUT_S = 60
TRIES, PAUSE_S = 4, 2.0
"""Of a page; the pause doubles."""
TRANSIENT = (429, 500, 502, 503, 504)


def fetch_pages(
    server: str, query: str, to: Path, most: int, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Save the pages of a query until it ends or `most` entries are there; goes on where it ended.

    Parameters
    ----------
    server
        A name of `SERVERS`, or a base address.
    query
        In OPTIMADE's language of filters; '' for all.
    to
        Folder for `page-00001.json`, …, `labels.csv` and what is needed to go on.
    labels
        Property to the server's field (such as `_oqmd_delta_e`): columns of `labels.csv`, whose
        ids are those of `matml structures ingest`.

    Returns
    -------
    dict
        entries, pages, and `found`, which the query has in all where the server says it.

    Raises
    ------
    MatmlError
        Where the server does not answer, refuses the query or answers with something else; where
        the folder holds another query. Pages that came are kept.
    """
    base = SERVERS.get(server, server).rstrip("/")
    if urlsplit(base).scheme not in ("http", "https"):
        raise MatmlError(f"{server!r}: give an address, or one of {', '.join(SERVERS)}")
    if not base.endswith("/structures"):
        base += ("" if base.endswith("/v1") else "/v1") + "/structures"
    asked = {"server": base, "filter": query, "fields": sorted({*FIELDS, *labels.values()})}
    to.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {"asked": asked, "next": base, "pages": 0, "entries": 0, "found": None}
    if (to / STATE).is_file():
        state = read_json(to / STATE, shape=dict[str, Any])
        if state["asked"] != asked:
            raise MatmlError(f"{to}: holds the pages of another query; give another folder")
    while state["next"] and state["entries"] < most:
        first = state["pages"] == 0
        parameters = {
            "filter": query,
            "response_fields": ",".join(asked["fields"]),
            "page_limit": min(PAGE_LIMIT, most),
        }
        text = _get(state["next"], {k: v for k, v in parameters.items() if v} if first else {})
        page = _page(text, state["next"])
        if not page["data"]:
            state["next"] = None
        else:
            state["pages"] += 1
            state["entries"] += len(page["data"])
            state["next"] = _next(page, state["next"])
            write_text(to / f"page-{state['pages']:05d}.json", text)
        found = (page.get("meta") or {}).get("data_returned")
        state["found"] = found if isinstance(found, int) else state["found"]
        write_json(to / STATE, state)
        of = f" of {state['found']:,}" if state["found"] else ""
        log.info("page %d: %s entries%s", state["pages"], f"{state['entries']:,}", of)
    if labels:
        write_table(to / LABELS, _labels(to, state["pages"], labels))
    return {key: state[key] for key in ("entries", "pages", "found")}


def _get(url: str, parameters: Mapping[str, Any]) -> str:
    """Return what stands at an address; tries again where a server may recover."""
    try:
        import requests
    except ImportError:
        raise MatmlError("`matml data optimade` needs requests: pip install requests") from None
    for attempt in range(1, TRIES + 1):
        pause = PAUSE_S * 2 ** (attempt - 1)
        try:
            response = requests.get(url, params=parameters, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            reason = f"no answer ({type(error).__name__})"
        else:
            if response.ok:
                return response.content.decode("utf-8", errors="replace")
            reason = f"the server answered {response.status_code} {_detail(response.text)}"
            if response.status_code not in TRANSIENT:
                raise MatmlError(f"{response.url}: {reason.strip()}; correct address or filter")
            after = response.headers.get("Retry-After", "")
            pause = float(after) if after.isdigit() else pause
        if attempt < TRIES:
            log.info("%s: %s; again in %g s", url, reason, pause)
            time.sleep(pause)
    raise MatmlError(f"{url}: {reason.strip()}; run this again: it goes on with the next page")


def _detail(text: str) -> str:
    """Return what a server says is wrong."""
    try:
        return "; ".join(str(error["detail"]) for error in json.loads(text)["errors"])[:500]
    except (ValueError, LookupError, TypeError):
        return ""


def _page(text: str, url: str) -> dict[str, Any]:
    try:
        page = json.loads(text)
    except ValueError:
        page = None
    if not isinstance(page, dict) or not isinstance(page.get("data"), list):
        raise MatmlError(
            f"{url}: what came is no page of OPTIMADE structures ({text[:60]!r}); check the address"
        )
    return page


def _next(page: dict[str, Any], url: str) -> str | None:
    """Return the address of the next page, which is on the same server; None on the last one."""
    link = (page.get("links") or {}).get("next")
    link = link.get("href") if isinstance(link, dict) else link
    if not link:
        return None
    if urlsplit(str(link)).hostname != urlsplit(url).hostname or link == url:
        raise MatmlError(f"{url}: names {link} as its next page, which is not one of this server")
    return str(link)


def _labels(folder: Path, pages: int, labels: Mapping[str, str]) -> pd.DataFrame:
    """The labels of all pages, one row an entry."""
    rows = []
    for number in range(1, pages + 1):
        path = folder / f"page-{number:05d}.json"
        entries = read_json(path, shape=dict[str, Any])["data"]
        for suffix, entry in zip(entry_suffixes(entries), entries, strict=True):
            given = entry.get("attributes") or {}
            rows.append(
                {"id": path.name + suffix} | {name: given.get(key) for name, key in labels.items()}
            )
    table = pd.DataFrame(rows, columns=["id", *labels])
    for name, key in labels.items():
        if len(table) and table[name].isna().all():
            raise MatmlError(
                f"{folder}: no entry has a value of {key} ({name}); see the fields that the server "
                "describes at …/v1/info/structures"
            )
    return table
