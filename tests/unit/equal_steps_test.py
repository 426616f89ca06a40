"""Methods after equal numbers of env steps, worked out by hand."""

import dataclasses

import numpy as np
import reproductions

from trpo_tf.reproduction import equal_steps, locomotion


def _result(method, millions, values, task='hopper'):
  return reproductions.result(task, method, values, 1e6 * np.array(millions))


def test_values_lie_between_those_of_policies():
  results = [
    _result('single_path', [1, 3, 6], [[0, 1, 3], [0, 3, 5]]),
    _result('cem', [2, 2.5], [[7, 9]]),
    _result('rwr', [1, 1.5], [[7, 9]], task='walker'),
  ]
  text = equal_steps.table(locomotion.TABLE, results, 'hopper')
  assert text.splitlines() == [
    '| method | 1M | 2M |',
    '|---|---|---|',
    # iteration 2 acts after 1M env steps, and iteration 3 after 3M
    '| single path | 2.000 | 3.000 |',
    '| CEM | 8.000 | 9.000 |',
  ]


def test_what_a_method_has_not_reached():
  results = [
    _result('single_path', [1, 6], [[0, 1]]),
    _result('vine', [6, 7], [[0, 1]]),
    _result('cem', [0.5, 0.9], [[7, 9]]),
  ]
  text = equal_steps.table(locomotion.TABLE, results, 'hopper')
  assert text.splitlines()[-1] == '| CEM | - | - | - |'
  only = [dataclasses.replace(results[0], method='rwr'), results[2]]
  assert '| method |' in equal_steps.table(locomotion.TABLE, only, 'hopper')
