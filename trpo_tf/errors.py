"""The error that is addressed to the person who typed the command."""


class UserError(ValueError):
  """An error that the user can mend; its message says how, in one line.

  Binaries print the message without a traceback and exit with code 2.
  """
