"""The lines that begin a benchmark's report."""

from rich.console import Console

from trpo_tf.experiment import provenance


def describe(
  console: Console, session: provenance.Session, rivals: dict[str, str]
) -> None:
  """Prints machine, versions and command.

  Args:
    console: where to print.
    session: the result of provenance.session().
    rivals: versions by name of other libraries that are measured.
  """
  host = session['host']
  versions = {k: v for k, v in (session['versions'] | rivals).items() if v}
  console.print(f'{host["cpu"]}, {host["cores"]} cores, {host["platform"]}')
  console.print(', '.join(f'{k} {v}' for k, v in versions.items()))
  console.print(session['command'])
