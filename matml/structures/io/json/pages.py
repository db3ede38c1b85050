"""Pages of OPTIMADE responses saved to disk: are all of them there?"""

import json
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from matml.structures.io.documents import Document

log = logging.getLogger(__name__)

Said = tuple[int | None, int | None]


@dataclass
class Pages:
    """Entries met in paged responses, by how many the server said its query has.

    Attributes
    ----------
    entries
        (`meta.data_returned`, `meta.data_available`), each None where it was not said, to the
        number of entries. The first counts what the query found, on all of its pages; the second
        the whole database (OPTIMADE specification 1.2, section 5.3.2), so at most that many.
    open
        The same to (file, entries) of the pages that name a next one.
    pages
        The same to the number of pages.
    """

    entries: dict[Said, int] = field(default_factory=dict)
    open: dict[Said, list[tuple[str, int]]] = field(default_factory=dict)
    pages: dict[Said, int] = field(default_factory=dict)

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
        counts = (meta.get(key) for key in ("data_returned", "data_available"))
        found, available = (count if isinstance(count, int) else None for count in counts)
        said, number = (found, available), len(value["data"])
        self.entries[said] = self.entries.get(said, 0) + number
        self.pages[said] = self.pages.get(said, 0) + 1
        # a link is a text, or an object with the text (OPTIMADE specification 1.2, section 5.3.2)
        if links.get("next") or meta.get("more_data_available") is True:
            self.open.setdefault(said, []).append((document.source, number))

    def missing(self) -> list[str]:
        """What is missing, one sentence for each query that ends early."""
        sentences = []
        for said, pages in self.open.items():
            entries = self.entries[said]
            found, available = said
            if found is not None:
                complete, total = entries >= found, f"{entries} of {found}"
            else:
                # of a database of which the query may want a part, the last page tells the end
                complete = self.pages[said] > len(pages) or entries >= (available or math.inf)
                total = f"only {entries}" + (f" (of at most {available})" if available else "")
            if complete:
                continue
            file, number = pages[-1]
            sentences.append(
                f"{file}: holds {number} entries and names a next page (`links.next`) that is not "
                f"there: {total} entries are read; save the further pages beside it"
            )
        return sentences


def warn_of_missing_pages(documents: Iterable[Document]) -> None:
    """Log what is missing among documents that are all there is."""
    pages = Pages()
    for document in documents:
        pages.add(document)
    for sentence in pages.missing():
        log.warning("%s", sentence)
