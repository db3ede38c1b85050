"""The reason why one crystal or one label cannot be used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

LONGEST_WORD = 200


class BadCrystal(Exception):
    """A crystal that cannot be used: it goes to quarantine and the rest goes on.

    Parameters
    ----------
    reason
        What is wrong, with the value at fault.
    remedy
        What the user can do about it.
    """

    def __init__(self, reason: str, remedy: str):
        # both, so that it travels whole between processes
        super().__init__(reason, remedy)
        # a cell of a file may be as long as the file
        self.reason = " ".join(
            word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}…"
            for word in reason.split()
        )
        self.remedy = " ".join(remedy.split())

    def __str__(self) -> str:
        return self.reason

    def noting(self, notes: Sequence[str]) -> "BadCrystal":
        """Return it with what was noted as the crystal was read, so that no warning is lost."""
        said = [note for note in notes if note not in self.reason]
        return (
            BadCrystal(f"{self.reason} (noted: {'; '.join(said)})", self.remedy) if said else self
        )


@contextmanager
def hinted(question: str) -> Iterator[None]:
    """Put a question about the likely cause before the remedy of what is raised; '' for none."""
    try:
        yield
    except BadCrystal as bad:
        if question:
            raise BadCrystal(bad.reason, f"{question} Else {bad.remedy}") from None
        raise
