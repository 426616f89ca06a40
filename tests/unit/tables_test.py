"""Tables of evaluations, against numbers worked out by hand."""

import pytest

from trpo_tf.errors import UserError
from trpo_tf.experiment import tables


def _evaluation(task, seed, deterministic, sampled, env_steps=1000):
  return dict(
    task=task,
    seed=seed,
    env_steps=env_steps,
    deterministic={'return': {'mean': deterministic}},
    sampled={'return': {'mean': sampled}},
  )


def test_runs_are_grouped_by_task_and_budget():
  rows = tables.summarize_tasks(
    [
      _evaluation('Hopper-v5', 0, 1.0, 2.0),
      _evaluation('Ant-v5', 0, 9.0, 9.0),
      _evaluation('Hopper-v5', 1, 3.0, 4.0),
      _evaluation('Hopper-v5', 2, 5.0, 6.0, env_steps=2000),
    ]
  )
  assert [(r.task, r.env_steps) for r in rows] == [
    ('Hopper-v5', 1000),
    ('Ant-v5', 1000),
    ('Hopper-v5', 2000),
  ]
  assert rows[0].deterministic == (1.0, 3.0)
  assert rows[0].sampled == (2.0, 4.0)


def test_markdown_has_mean_iqm_interval_and_every_seed():
  rows = tables.summarize_tasks(
    _evaluation('Hopper-v5', s, 10.0 * s, 100.0) for s in range(4)
  )
  *_, line = tables.markdown(rows).splitlines()
  cells = [cell.strip() for cell in line.strip('|').split('|')]
  assert cells[:3] == ['Hopper-v5', '1,000', '0 to 3']
  assert cells[3].startswith('15 (')
  assert cells[4:6] == ['15', '0, 10, 20, 30']
  assert cells[6] == '100 (100 to 100)'


def test_a_run_without_evaluation_says_what_to_do(tmp_path):
  with pytest.raises(UserError, match='run python -m trpo_tf.bin.evaluate'):
    tables.load_evaluation(tmp_path)
