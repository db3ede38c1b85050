"""Pages of OPTIMADE responses saved to disk: are all of them there?"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from matml.structures.read import Document

log = logging.getLogger(__name__)


@dataclass
class Pages:
    """Entries met in paged responses, by how many the server said there are in all.

    Attributes
    ----------
    entries
        `meta.data_available` (None where it was not said) to the number of entries.
    open
        The same to (file, entries) of the pages that name a next one.
    pages
        The same to the number of pages.
    """

    entries: dict[int | None, int] = field(default_factory=dict)
    open: dict[int | None, list[tuple[str, int]]] = field(default_factory=dict)
    pages: dict[int | None, int] = field(default_factory=dict)

    def add(self, document: Document) -> None:
        """Take a document in; anything but an OPTIMADE response is passed over."""
        if document.kind != "json" or '"data"' not in document.text:
            return
        try:
            value = json.loads(document.text)
        except (ValueError, RecursionError):
            return  # which its reader tells
        if not isinstance(value, dict) or not isinstance(value.get("data"), list):
            return
        links, meta = (value.get(key) or {} for key in ("links", "meta"))
        if not (isinstance(links, dict) and isinstance(meta, dict)):
            return
        available = meta.get("data_available")
        available = available if isinstance(available, int) else None
        number = len(value["data"])
        self.entries[available] = self.entries.get(available, 0) + number
        self.pages[available] = self.pages.get(available, 0) + 1
        # a link is a text, or an object with the text (OPTIMADE specification 1.2, section 5.3.2)
        if links.get("next") or meta.get("more_data_available") is True:
            self.open.setdefault(available, []).append((document.source, number))

    def missing(self) -> list[str]:
        """What is missing, one sentence for each query that ends early."""
        found = []
        for available, pages in self.open.items():
            entries = self.entries[available]
            complete = self.pages[available] > len(pages)
            if entries >= available if available is not None else complete:
                continue
            file, number = pages[-1]
            total = f"{entries} of {available}" if available is not None else f"only {entries}"
            found.append(
                f"{file}: holds {number} entries and names a next page (`links.next`) that is not "
                f"there: {total} entries are read; save the further pages beside it"
            )
        return found


def warn_of_missing_pages(documents: Iterable[Document]) -> None:
    """Log what is missing among documents that are all there is."""
    pages = Pages()
    for document in documents:
        pages.add(document)
    for sentence in pages.missing():
        log.warning("%s", sentence)
