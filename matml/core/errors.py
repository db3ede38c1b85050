"""The one exception that a user is meant to read."""


class MatmlError(Exception):
    """Input that cannot be used; the message names file, row, field, value and remedy.

    The command line prints it as one line, without a traceback, and exits with code 2.
    """
