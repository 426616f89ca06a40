"""Graphs that every run compiles anew."""

import tensorflow as tf

from trpo_tf.policies import graphs


def _compile_often(compile_one):
  for _ in range(8):

    def double(x):
      return 2 * x

    assert compile_one(double)(tf.constant(1.0)) == 2


def test_graphs_of_many_runs_are_no_accident(caplog):
  with caplog.at_level('WARNING', 'tensorflow'):
    _compile_often(graphs.compiled)
    assert 'retracing' not in caplog.text
    _compile_often(tf.function)
    assert 'retracing' in caplog.text
