"""A residual network for --policy: each layer adds to its input."""

import tensorflow as tf

import trpo_tf


def make_network(observation_size, output_size):
  """Maps observations [N, observation_size] to outputs [N, output_size]."""
  dense = tf.keras.layers.Dense
  inputs = tf.keras.Input([observation_size])
  x = dense(32, 'tanh')(inputs)
  for _ in range(2):
    x = tf.keras.layers.Add()([x, dense(32, 'tanh')(x)])
  small = tf.keras.initializers.RandomNormal(stddev=0.01)
  outputs = dense(output_size, kernel_initializer=small)(x)
  return trpo_tf.KerasNetwork(tf.keras.Model(inputs, outputs))
