"""The picture of bench_vine's results."""

from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.ticker

from trpo_tf.experiment.plots import COLORS, STYLE

_RIVALS = {
  'mujoco_batch': 'mujoco.batch, lock-step\n+ TF policy (no reward)',
  'envpool': 'EnvPool + NumPy policy\n(plain steps, no branches)',
  'gymnasium': 'gymnasium loop\n+ NumPy policy, 1 thread',
}
_SMALL = 7.5
_VARIED = {'states': 'states N', 'actions': 'actions K', 'horizon': 'length L'}
_GREY = '#9a9a9a'


def draw(result: dict[str, Any]) -> matplotlib.figure.Figure:
  """Draws the JSON of bench_vine, one panel per question."""
  with matplotlib.rc_context(STYLE):
    figure = matplotlib.figure.Figure(
      figsize=(12.5, 7), dpi=160, layout='constrained'
    )
    axes = figure.subplots(2, 3)
    for axis, panel in zip(
      axes.flat,
      (_speeds, _threads, _sizes, _variance, _clone, _memory),
      strict=True,
    ):
      panel(axis, result)
    figure.suptitle(
      _title(result), x=0.01, ha='left', fontsize=11, fontweight='bold'
    )
    host = result['session']['host']
    figure.supxlabel(
      f'{host["cpu"]}, {host["cores"]} cores; MuJoCo '
      f'{result["session"]["versions"]["mujoco"]}; bars and whiskers: medians '
      'and 95 % bootstrap intervals',
      fontsize=7,
      color='#606060',
    )
  return figure


def _title(result: dict[str, Any]) -> str:
  n = result['sizes']
  return (
    f'Vine on {result["task"]}: N = {n["states"]} states, K = {n["actions"]} '
    f'actions, M = {n["trials"]}, L = {n["horizon"]}, '
    f'{result["threads"]} threads'
  )


def _bars(
  axis: Any,
  labels: list[str],
  values: list[float],
  texts: list[str],
  colors: list[str],
) -> None:
  """Draws horizontal bars from the top, each with its text at its end."""
  places = range(len(labels))
  axis.barh(places, values, color=colors, height=0.62)
  axis.set_yticks(places, labels)
  axis.tick_params(axis='y', length=0, labelsize=_SMALL)
  axis.invert_yaxis()
  axis.grid(False, axis='y')
  axis.spines['left'].set_visible(False)
  axis.set_xlim(0, 1.35 * max(values))
  for place, value, text in zip(places, values, texts, strict=True):
    axis.annotate(
      text,
      (value, place),
      (4, 0),
      textcoords='offset points',
      va='center',
      fontsize=_SMALL,
    )


def _speeds(axis: Any, result: dict[str, Any]) -> None:
  """Draws speeds relative to the vine's, measured in pairs with it."""
  ratios = {
    'bare mj_step loop\n(the limit)': result['native_over_physics'],
    'native vine': None,
  }
  ratios |= {
    label: found['native_over']
    for name, label in _RIVALS.items()
    if (found := result['rivals'][name])
  }
  values, texts = [], []
  for ratio in ratios.values():
    if ratio is None:
      values.append(1.0)
      texts.append(f'{result["native_env_steps_per_second"]:,.0f}\nenv steps/s')
    else:
      value, (low, high) = 1 / ratio['median'], ratio['ci95']
      values.append(value)
      texts.append(f'{value:.3f}\n[{1 / high:.3f}, {1 / low:.3f}]')
  colors = [_GREY, COLORS[0]] + [COLORS[1]] * (len(values) - 2)
  _bars(axis, list(ratios), values, texts, colors)
  axis.set_xlabel('env steps per second, relative to the native vine')
  axis.set_title('Speed', loc='left')


def _threads(axis: Any, result: dict[str, Any]) -> None:
  found = result['scaling']['threads']
  counts = [f['threads'] for f in found]
  for name, label, color in (
    ('physics', 'bare mj_step loop', _GREY),
    ('native', 'native vine', COLORS[0]),
  ):
    speeds = [f[f'{name}_env_steps_per_second'] for f in found]
    axis.plot(counts, speeds, 'o-', color=color, label=label, markersize=5)
  one = found[0]['native_env_steps_per_second']
  axis.plot(
    counts,
    [one * n for n in counts],
    ':',
    color='#404040',
    linewidth=1,
    label='linear',
  )
  axis.set_xticks(counts)
  axis.set_xlim(min(counts) - 0.3, max(counts) + 0.3)
  axis.set_ylim(bottom=0)
  axis.yaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=''))
  axis.set_xlabel('threads')
  axis.set_ylabel('env steps per second')
  axis.set_title('Scaling over threads', loc='left')
  axis.legend(loc='lower right', fontsize=_SMALL)


def _sizes(axis: Any, result: dict[str, Any]) -> None:
  marks = ('o-', 's-', '^-')
  for (name, label), mark, color in zip(
    _VARIED.items(), marks, COLORS, strict=False
  ):
    base, found = result['sizes'][name], result['scaling'][name]
    factors = [f[name] / base for f in found]
    costs = [1 / f['native_over_physics']['median'] for f in found]
    span = f'{found[0][name]} to {found[-1][name]}'
    axis.plot(
      factors, costs, mark, color=color, markersize=5, label=f'{label}: {span}'
    )
  axis.axhline(1, color='#404040', linewidth=1, linestyle=':')
  axis.set_xscale('log', base=2)
  axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter('%g'))
  axis.set_ylim(0, 1.5)
  axis.set_xlabel("size, as a multiple of the run's own")
  axis.set_ylabel('time / time of its physics')
  axis.set_title('Cost per env step over N, K and L', loc='left')
  axis.legend(loc='lower left', fontsize=_SMALL)


def _variance(axis: Any, result: dict[str, Any]) -> None:
  policies = result['crn_variance_ratio']
  axis.axhline(1, color='#404040', linewidth=1, linestyle=':')
  for i, (name, horizons) in enumerate(policies.items()):
    kept = {
      L: f for L, f in horizons.items() if f['states'] and f['ci95'][0] > 0
    }  # the scale is logarithmic
    shift = 0.14 * (i - (len(policies) - 1) / 2)
    places = [list(horizons).index(L) + shift for L in kept]
    medians = [f['median'] for f in kept.values()]
    spread = [
      [f['median'] - f['ci95'][0] for f in kept.values()],
      [f['ci95'][1] - f['median'] for f in kept.values()],
    ]
    axis.errorbar(
      places,
      medians,
      spread,
      fmt='o',
      color=COLORS[i],
      capsize=4,
      markersize=6,
      label=f'{name} policy',
    )
    for place, found in zip(places, kept.values(), strict=True):
      saved = found['simulator_steps_saved']
      axis.annotate(
        f'{saved:.3g} x',
        (place, found['median']),
        (7 if i else -7, 0),
        textcoords='offset points',
        va='center',
        ha='left' if i else 'right',
        fontsize=_SMALL,
        color=COLORS[i],
      )
    axis.set_xticks(range(len(horizons)), list(horizons))
    axis.set_xlim(-0.6, len(horizons) - 0.4)
  axis.set_yscale('log')
  low, high = axis.get_ylim()
  axis.set_ylim(min(low, 0.03), max(5, high))
  axis.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter('%g'))
  axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
  axis.text(
    0.99,
    1.05,
    'no help from here',
    fontsize=_SMALL,
    color='#404040',
    transform=axis.get_yaxis_transform(),
    ha='right',
    va='bottom',
  )
  axis.set_xlabel('length L of the branches (k x: simulator steps saved)')
  axis.set_ylabel('var(Q1 - Q2), common / independent')
  axis.set_title('Common random numbers', loc='left')
  axis.legend(loc='upper left', fontsize=_SMALL, ncols=2)


def _clone(axis: Any, result: dict[str, Any]) -> None:
  labels = {
    'native': 'native vine:\na state row',
    'set_state': 'mj_setState\nfrom Python',
    'mj_copyData': 'mj_copyData\nfrom Python',
  }
  values = [result['clone'][name] for name in labels]
  _bars(
    axis,
    list(labels.values()),
    values,
    [f'{v:.2f}' for v in values],
    [COLORS[0], COLORS[1], COLORS[1]],
  )
  axis.set_xlabel('microseconds, one thread')
  axis.set_title('Cost of a clone', loc='left')


def _memory(axis: Any, result: dict[str, Any]) -> None:
  found = result['memory']
  mib = 2**20
  small, large = found['small_branches'], found['large_branches']
  rows = {
    f'simulations and\nfirst call, {small:,} branches': found['growth_small'],
    f'first call of\n{large:,} branches': found['growth_large'],
    f'{found["calls"]} more calls': found['growth_more_calls'],
    f'an mjData for each of\n{large:,} branches, at least': large
    * found['mjdata_without_arena'],
  }
  known = {
    label: value / mib for label, value in rows.items() if value is not None
  }
  _bars(
    axis,
    list(known),
    list(known.values()),
    [f'{v:.2f}' for v in known.values()],
    [COLORS[0]] * (len(known) - 1) + [_GREY],
  )
  axis.set_xlabel('growth of peak resident memory [MiB]')
  axis.set_title('Memory', loc='left')
