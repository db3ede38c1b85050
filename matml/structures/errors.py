"""The reason why one crystal or one label cannot be used."""


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
        super().__init__(reason)
        self.reason = " ".join(reason.split())
        self.remedy = " ".join(remedy.split())
