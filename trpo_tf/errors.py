"""The error that is addressed to the person who typed the command."""

_LONGEST = 300  # characters of another's message that are quoted


class UserError(ValueError):
  """An error that the user can mend; its message says how, in one line.

  Binaries print the message without a traceback and exit with code 2.
  """


class TaskError(UserError):
  """A failure of the environment or of its process, not of a file.

  A checkpoint that is being read when it happens is as good as before.
  """


class RemoteError(Exception):
  """An exception of another process; its text is the traceback there.

  Attributes:
    line: the exception in one line.
  """

  def __init__(self, line: str, text: str):
    """Takes the line and the traceback.

    Args:
      line: the exception in one line.
      text: its traceback.
    """
    super().__init__(f'\n{text.rstrip()}')
    self.line = line


def quoted(error: BaseException) -> str:
  """Formats in one line what a user's code raised; it may be any exception."""
  if isinstance(error, RemoteError):
    return error.line
  try:
    text = ' '.join(str(error).split())
  except Exception:  # its __str__ is the user's code too
    text = 'its message cannot be shown'
  if len(text) > _LONGEST:
    text = f'{text[:_LONGEST]}...'
  name = type(error).__name__
  return f'{name}: {text}' if text else name


def cause(error: BaseException) -> str:
  """Formats what ended a program, and says how to see where it was raised."""
  return f'{quoted(error)}; --verbosity=1 shows its traceback'
