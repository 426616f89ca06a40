"""docs/progress.md is the table of the record's fields."""

import dataclasses
import pathlib

import numpy as np

from trpo_tf.methods.record import COLUMNS, IterationRecord, groups
from trpo_tf.optim.step import StepStatus

_PAGE = pathlib.Path(__file__).parents[2] / 'docs/progress.md'
_FIELDS = dataclasses.fields(IterationRecord)


def test_the_page_has_every_column_with_unit_and_meaning():
  text, _, _ = _PAGE.read_text().partition('## evaluations.csv')
  rows = [r for r in text.splitlines() if r.startswith('| `')]
  assert rows == [
    '| `{}` | {group} | {unit} | {meaning} |'.format(f.name, **f.metadata)
    for f in _FIELDS
  ]


def test_every_column_has_a_type_a_unit_and_a_meaning():
  for field in _FIELDS:
    assert field.type in (int, float, str), field.name
    assert field.metadata['unit'] and field.metadata['meaning'], field.name
    default = field.default
    assert isinstance(default, field.type), field.name
  assert [f.name for f in _FIELDS if f.type is str] == ['step_status']


def test_every_column_is_in_one_group():
  names = [name for columns in groups().values() for name in columns]
  assert tuple(names) == COLUMNS


def test_what_a_method_does_not_have_is_nan():
  record = IterationRecord()
  assert np.isnan([record.mean_kl, record.return_mean, record.curvature]).all()


def test_every_status_is_explained():
  (field,) = (f for f in _FIELDS if f.name == 'step_status')
  for status in StepStatus:
    assert status.name.lower() in field.metadata['meaning']
