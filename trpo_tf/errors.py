"""The error whose reader is the person who typed the command."""


class UserError(ValueError):
  """Something the user can mend; the message is one line that says how.

  Binaries print the message without a traceback and exit with code 2.
  """
