"""The one exception whose message is meant for the user: printed as a single line, without a traceback."""


class UserError(Exception):
    """Something the user can mend; the message names the file, key or value and how."""
