"""The results of bench_vine as tables for the terminal."""

from typing import Any

from rich.table import Table

_RIVALS = {
  'mujoco_batch': ('mujoco.batch (1)', '>', 1),
  'gymnasium': ('gymnasium (2)', '>=', 4),
  'envpool': ('EnvPool (3)', '', None),
}
_SPEED_NOTES = (
  '(1) policy in TF, all live branches in lock-step; does less: no '
  'observation, reward or termination. (2) policy in NumPy, a Python loop '
  'with set_state: one thread, {} of the branches, not exact. (3) policy in '
  'NumPy, plain steps: it cannot branch.'
)
_VARIANCE_NOTES = (
  'var(Q1 - Q2) with common random numbers over that with independent ones: '
  'median over states ({} noise sequences each), and ratio of the means. Steps '
  'saved: how many times the simulator steps independent noise needs for the '
  'same variance, in the median.'
)


def _table(title: str, columns: tuple[str, ...], **options: Any) -> Table:
  table = Table(title=title, title_justify='left', **options)
  for i, name in enumerate(columns):
    table.add_column(name, justify='right' if i else 'left', no_wrap=not i)
  return table


def tables(result: dict[str, Any]) -> list[Table]:
  """Makes the tables: speed, scaling, clones and memory, variance, updates."""
  found = [_speed(result), _scaling(result), _costs(result), _variance(result)]
  return [*found, _update(result)]


def _interval(low: float, high: float) -> str:
  return f'{low:.3f} to {high:.3f}'


def _ratio(ratio: dict[str, Any], text: str, bar: float | None) -> list[str]:
  value = ratio['median']
  met = 'met' if bar and value >= bar else 'MISSED'
  return [
    f'{value:.3f}',
    _interval(*ratio['ci95']),
    f'{text} {bar:g} {met}' if bar else '',
  ]


def _speed(result: dict[str, Any]) -> Table:
  sizes = 'N = {states}, K = {actions}, M = {trials}, L = {horizon}'.format(
    **result['sizes']
  )
  loop = result['rivals']['gymnasium']
  table = _table(
    f'{result["task"]}: {sizes}, {result["threads"]} threads, mean length '
    f'{result["speed"]["mean_length"]:.1f}',
    ('', 'env steps/s', 'native /', '95 % interval', 'bar'),
    caption=_SPEED_NOTES.format(loop['branches'] if loop else 'none'),
    caption_justify='left',
  )
  table.add_row('native vine', f'{result["native_env_steps_per_second"]:,.0f}')
  table.add_row(
    'bare physics',
    f'{result["physics_env_steps_per_second"]:,.0f}',
    *_ratio(result['native_over_physics'], '>=', 0.97),
  )
  recorded = result['recorded']
  table.add_row(
    'bare physics (vine that keeps its steps)',
    f'{recorded["physics_env_steps_per_second"]:,.0f}',
    *_ratio(recorded['native_over_physics'], '>=', 0.96),
  )
  for name, (label, text, bar) in _RIVALS.items():
    found = result['rivals'][name]
    if name == 'gymnasium' and result['task'] != 'Hopper-v5':
      bar = None  # the bar was set for that task
    if found:
      table.add_row(
        label,
        f'{found["env_steps_per_second"]:,.0f}',
        *_ratio(found['native_over'], text, bar),
      )
    else:
      table.add_row(
        label, 'not installed' if name == 'envpool' else 'lacks the task'
      )
  return table


def _scaling(result: dict[str, Any]) -> Table:
  table = _table(
    'scaling (env steps cost more or less by the states that branches visit)',
    ('', 'branches', 'env steps/s', 'us an env step', 'time / physics'),
  )
  for name, rows in result['scaling'].items():
    for row in rows:
      speed = row['native_env_steps_per_second']
      branches = row['states'] * row['actions'] * row['trials']
      table.add_row(
        f'{name} {row[name]}',
        f'{branches:,}',
        f'{speed:,.0f}',
        f'{1e6 / speed:.1f}',
        f'{1 / row["native_over_physics"]["median"]:.3f}',
      )
    table.add_section()
  return table


def _mib(size: int | None) -> str:
  return 'not measured' if size is None else f'{size / 2**20:.2f} MiB'


def _costs(result: dict[str, Any]) -> Table:
  clone, memory = result['clone'], result['memory']
  table = _table('clones and memory', ('', ''))
  for label, name in (
    ('clone, a state row restored by the vine', 'native'),
    ('  mj_setState, called from Python', 'set_state'),
    ('  mj_copyData, called from Python', 'mj_copyData'),
  ):
    table.add_row(label, f'{clone[name]:.2f} us')
  table.add_section()
  large = f'{memory["large_branches"]:,} branches'
  for label, text in (
    ('a state row', f'{memory["state_row"]:,} bytes'),
    (
      'an mjData, without its arena',
      f'{memory["mjdata_without_arena"]:,} bytes',
    ),
    ('  number of them: one per thread', f'{memory["num_mjdata"]}'),
    (
      f'peak memory: first call, {memory["small_branches"]:,} branches',
      '+ ' + _mib(memory['growth_small']),
    ),
    (f'  first call of {large}', '+ ' + _mib(memory['growth_large'])),
    ('    of these its records', _mib(memory['records_large'])),
    (
      f'  {memory["calls"]} more calls',
      '+ ' + _mib(memory['growth_more_calls']),
    ),
  ):
    table.add_row(label, text)
  return table


def _variance(result: dict[str, Any]) -> Table:
  table = _table(
    'common random numbers',
    ('policy', 'L', 'median', '95 % interval', 'of means', 'steps saved', ''),
    caption=_VARIANCE_NOTES.format(result['noise_sequences']),
    caption_justify='left',
  )
  for policy, horizons in result['crn_variance_ratio'].items():
    for horizon, found in horizons.items():
      row = [policy, str(horizon)]
      if found['states']:
        saved = found['simulator_steps_saved']
        row += [
          f'{found["median"]:.3g}',
          '{:.3g} to {:.3g}'.format(*found['ci95']),
          f'{found["pooled"]:.3g}',
          f'{saved:.4g} x' if saved else 'all',
        ]
      else:
        row += ['-'] * 4
      table.add_row(*row, found['verdict'])
  return table


def _update(result: dict[str, Any]) -> Table:
  found = result['update']
  table = _table(
    'training: the update of an iteration',
    ('', 'env steps', 'us per env step', '/ single path', '95 % interval'),
  )
  for name, label in (
    ('single_path', 'single path'),
    ('vine', 'vine, every step (v5/vine)'),
  ):
    ratio = found['vine_over_single_path'] if name == 'vine' else None
    table.add_row(
      label,
      f'{found["env_steps"][name]:,.0f}',
      f'{1e6 * found["update_seconds"][name]:.1f}',
      f'{ratio["median"]:.3f}' if ratio else '',
      _interval(*ratio['ci95']) if ratio else '',
    )
  return table
