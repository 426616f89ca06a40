"""What the sinks write, and what they keep when a run resumes."""

import errno
import io
import json
import os
import pathlib

import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.util import tensor_util

from trpo_tf import errors
from trpo_tf.experiment import console, progress, sinks
from trpo_tf.experiment.terminal import Terminal
from trpo_tf.methods.record import IterationRecord


def _record(iteration, **changes):
  record = {name: 0.1 * iteration for name in sinks.COLUMNS}
  record |= dict(
    iteration=iteration,
    env_steps=100 * iteration,
    episodes=3,
    diverged=0,
    step_status='accepted',
    return_mean=np.float32(1 / 3) * iteration,
    env_steps_per_second=12345.6,
    explained_variance=float('nan'),
  )
  return IterationRecord(**record | changes)


def _write(path, iterations, last_iteration=None, **changes):
  sink = sinks.CsvSink(path, last_iteration)
  for iteration in iterations:
    sink.write(sinks.Entry(_record(iteration, **changes)))
  sink.close()


def _write_json(folder, iterations, last_iteration=None, **changes):
  """Writes both files, as a run does."""
  path = folder / 'progress.csv'
  csv = sinks.CsvSink(path, last_iteration)
  rows = progress.read(path).rows[: last_iteration or 0]
  json_lines = sinks.JsonLinesSink(folder / 'progress.jsonl', rows)
  for iteration in iterations:
    csv.write(sinks.Entry(_record(iteration, **changes)))
    json_lines.write(sinks.Entry(_record(iteration, **changes)))
  csv.close()
  json_lines.close()


def _strict(line):
  def refuse(name):
    raise ValueError(f'{name} is no JSON')

  return json.loads(line, parse_constant=refuse)


def test_columns_are_the_promised_ones():
  promised = (
    'iteration env_steps episodes return_mean return_std episode_length_mean '
    'mean_kl max_state_kl surrogate_before surrogate_after step_status '
    'step_fraction cg_iterations cg_residual entropy explained_variance '
    'diverged sample_seconds update_seconds env_steps_per_second'
  ).split()
  assert set(promised) <= set(sinks.COLUMNS)
  assert len(set(sinks.COLUMNS)) == len(sinks.COLUMNS)


def test_csv_reads_back_bit_for_bit(tmp_path):
  path = tmp_path / 'progress.csv'
  _write(path, [1, 2], entropy=0.1 + 0.2, max_state_kl=5e-324)
  columns = progress.read_csv(path)
  assert tuple(columns) == sinks.COLUMNS
  assert columns['entropy'].tolist() == [0.1 + 0.2] * 2
  assert columns['max_state_kl'].tolist() == [5e-324] * 2
  assert columns['return_mean'].tolist() == [
    float(np.float32(1 / 3)),
    float(np.float32(1 / 3) * 2),
  ]
  assert np.isnan(columns['explained_variance']).all()
  assert columns['step_status'].tolist() == ['accepted'] * 2
  assert path.read_text().splitlines()[1].startswith('1,100,3,0.333')


@pytest.mark.parametrize('tail', ['', '4,40', '4,400,', '7,x\n'])
def test_resume_equals_a_run_never_stopped(tmp_path, tail):
  whole, resumed = tmp_path / 'whole.csv', tmp_path / 'resumed.csv'
  _write(whole, range(1, 7))
  _write(resumed, range(1, 4))
  with open(resumed, 'a') as file:
    file.write(tail)
  _write(resumed, range(3, 7), last_iteration=2)
  assert resumed.read_bytes() == whole.read_bytes()


def test_json_lines_have_the_numbers_of_the_csv(tmp_path):
  changes = dict(entropy=0.1 + 0.2, curvature=-np.inf, mean_kl=5e-324)
  _write_json(tmp_path, [1, 2], **changes)
  lines = (tmp_path / 'progress.jsonl').read_text().splitlines()
  columns = progress.read_csv(tmp_path / 'progress.csv')
  assert len(lines) == 2
  for i, row in enumerate(map(_strict, lines)):
    assert tuple(row) == sinks.COLUMNS
    assert row['explained_variance'] is row['curvature'] is None
    assert row['step_status'] == 'accepted'
    for name in ('iteration', 'env_steps', 'episodes', 'diverged'):
      assert type(row[name]) is int
    for name, value in row.items():
      assert value is None or value == columns[name][i]


@pytest.mark.parametrize('tail', ['', '{"iter', '{"iteration": 4}\n', '7\n'])
def test_json_lines_of_a_resumed_run(tmp_path, tail):
  whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
  for folder in (whole, resumed):
    folder.mkdir()
  _write_json(whole, range(1, 7))
  _write_json(resumed, range(1, 4))
  with open(resumed / 'progress.jsonl', 'a') as file:
    file.write(tail)
  _write_json(resumed, range(3, 7), last_iteration=2)
  name = 'progress.jsonl'
  assert (resumed / name).read_bytes() == (whole / name).read_bytes()


def test_json_lines_may_begin_later(tmp_path):
  """They have the rows before, also of a CSV of an older version."""
  (tmp_path / 'progress.csv').write_text('iteration,env_steps\n1,100\n2,200\n')
  _write_json(tmp_path, [3], last_iteration=2)
  lines = (tmp_path / 'progress.jsonl').read_text().splitlines()
  rows = [_strict(line) for line in lines]
  assert [row['iteration'] for row in rows] == [1, 2, 3]
  assert rows[0]['branch_steps'] is None


@pytest.mark.parametrize('content', ['', 'itera', None])
def test_start_from_a_crash_before_the_first_row(tmp_path, content):
  path = tmp_path / 'progress.csv'
  if content is not None:
    path.write_text(content)
  _write(path, [1])
  lines = path.read_text().splitlines()
  assert lines[0] == ','.join(sinks.COLUMNS)
  assert len(lines) == 2


def test_start_without_checkpoint_drops_all_rows(tmp_path):
  path = tmp_path / 'progress.csv'
  _write(path, [1, 2, 3])
  _write(path, [1])
  assert progress.read_csv(path)['iteration'].tolist() == [1]


def test_rows_missing_before_the_checkpoint_are_refused(tmp_path):
  path = tmp_path / 'progress.csv'
  _write(path, [1, 2])
  before = path.read_bytes()
  with pytest.raises(errors.UserError, match='ends at iteration 2 but .* 5'):
    sinks.CsvSink(path, 5)
  assert path.read_bytes() == before


def test_a_file_of_fewer_columns_is_read_and_continued(tmp_path):
  """As an older version wrote it; its numbers keep their digits."""
  path = tmp_path / 'progress.csv'
  path.write_text('iteration,env_steps,entropy\n1,100,0.1\n2,200,0.25\n')
  columns = progress.read_csv(path)
  assert columns['entropy'].tolist() == [0.1, 0.25]
  assert np.isnan(columns['branch_steps']).all()
  assert path.read_text().startswith('iteration,env_steps,entropy\n')
  sink = sinks.CsvSink(path, 2)
  sink.write(sinks.Entry(_record(3)))
  sink.close()
  assert progress.read_csv(path)['iteration'].tolist() == [1, 2, 3]
  assert path.read_text().splitlines()[0] == ','.join(sinks.COLUMNS)


def test_published_runs_can_be_read():
  root = pathlib.Path(__file__).parents[2] / 'docs' / 'results'
  paths = list(root.glob('*/*/*/progress.csv'))
  assert len(paths) >= 25
  for path in paths:
    assert progress.read_csv(path)['env_steps'][-1] > 0


@pytest.mark.parametrize('content', ['iteration,reward\n1,2\n', 'a note'])
def test_other_columns_are_refused_and_kept(tmp_path, content):
  path = tmp_path / 'progress.csv'
  path.write_text(content)
  for call in (
    lambda: sinks.CsvSink(path, None),
    lambda: progress.read_csv(path),
  ):
    with pytest.raises(errors.UserError, match='other columns'):
      call()
  assert path.read_text() == content
  with pytest.raises(errors.UserError, match='does not exist'):
    progress.read_csv(tmp_path / 'missing.csv')


def test_a_wrong_record_is_refused(tmp_path):
  sink = sinks.CsvSink(tmp_path / 'progress.csv', None)
  sink.write(sinks.Entry(_record(1)))
  with pytest.raises(ValueError, match='iteration 3 after 1'):
    sink.write(sinks.Entry(_record(3)))
  sink.close()


def test_full_disk_then_resume(tmp_path, monkeypatch):
  path = tmp_path / 'progress.csv'
  _write(path, [1])
  sink = sinks.CsvSink(path, 1)

  def full(unused_descriptor):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
      sink.write(sinks.Entry(_record(2)))
  sink.close()
  _write(path, [2], last_iteration=1)
  assert progress.read_csv(path)['iteration'].tolist() == [1, 2]


def _accumulate(directory):
  events = plugin_event_accumulator.EventAccumulator(os.fspath(directory))
  return events.Reload()


def test_tensorboard_forgets_lost_work(tmp_path):
  for first, iterations in ((None, (1, 2, 3)), (200, (3, 4))):
    sink = sinks.TensorBoardSink(tmp_path, first)
    for i in iterations:
      record = _record(i, entropy=float(i if first is None else 10 * i))
      returns = np.array([1.0, np.nan, 3.0, 3.0])
      sink.write(sinks.Entry(record, {'returns': returns}))
    sink.close()
  events = _accumulate(tmp_path)
  points = events.Tensors('policy/entropy')
  assert [point.step for point in points] == [100, 200, 300, 400]
  values = [tensor_util.make_ndarray(p.tensor_proto).item() for p in points]
  assert values == [1.0, 2.0, 30.0, 40.0]
  tags = events.Tags()['tensors']
  assert 'step/step_status' not in tags
  assert 'value/explained_variance' not in tags  # not finite
  assert 'progress/iteration' in tags
  histogram = tensor_util.make_ndarray(
    events.Tensors('histogram/returns')[0].tensor_proto
  )
  assert histogram[:, 2].sum() == 3  # the finite ones
  assert (histogram[0, 0], histogram[-1, 1]) == (1.0, 3.0)


def _console(terminal, total=1000, first=0, **kwargs):
  clock = iter(range(0, 1000, 4)).__next__
  stream = io.StringIO()
  out = Terminal(stream, force_terminal=terminal, width=100, _environ={})
  sink = console.ConsoleSink(out, total, first, clock=clock, **kwargs)
  return sink, out, stream


def test_plain_lines_are_spaced_and_the_last_is_shown():
  sink, out, stream = _console(False)
  for i in range(1, 8):
    sink.write(sinks.Entry(_record(i)))
  out.say('[a message]')
  sink.close()
  lines = stream.getvalue().splitlines()
  shown = [line.split()[0] for line in lines]
  assert shown[0] == '100/1k'
  assert shown[-2:] == ['700/1k', '[a']
  assert 2 < len(lines) < 7
  assert 'return 0.3' in lines[0]
  assert 'KL 0.1000' in lines[0]
  assert '100/1k steps at 12.35k/s' in lines[0]
  assert 'refused' not in lines[0]


def test_an_iteration_in_which_no_episode_ended_says_so():
  sink, _, stream = _console(False)
  sink.write(sinks.Entry(_record(1, return_mean=float('nan'))))
  assert '/s  no episode ended  KL' in stream.getvalue()


def test_the_last_state_is_shown_at_the_end():
  sink, out, stream = _console(False)
  sink.write(sinks.Entry(_record(1)))
  sink.write(sinks.Entry(_record(2)))
  assert '200/1k' not in stream.getvalue()
  sink.close()
  assert stream.getvalue().count('200/1k') == 1


def test_time_left_counts_from_where_the_run_resumed():
  sink, out, stream = _console(False, total=1000, first=800)
  # 100 of 200 steps took 4 s by the test's clock: 4 s are left.
  record = _record(9, step_status='no_improvement', diverged=2)
  sink.write(sinks.Entry(record))
  assert '00:04 left' in stream.getvalue()
  assert '1 refused  2 diverged' in stream.getvalue()


def test_iterations_count_where_they_end_the_run_sooner():
  sink, out, stream = _console(
    False, total=10**12, total_iterations=50, first_iteration=10
  )
  # 2 of 40 iterations took 4 s by the test's clock: 38 are 76 s
  sink.write(sinks.Entry(_record(12)))
  sink.close()
  text = stream.getvalue()
  assert text.startswith('iteration 12/50, 1.2k steps at')
  assert '01:16 left' in text


def test_live_line_fits_a_terminal_and_ends():
  sink, out, stream = _console(True, total=1_000_000)
  sink.write(sinks.Entry(_record(6125, return_mean=3456.78)))
  out.say('saved')
  sink.close()
  text = stream.getvalue()
  assert '612.5k/1M steps' in text
  assert 'return 3456.8' in text
  assert 'saved' in text
  assert text.count('\n') == 2  # the message and the end: one line rewritten
