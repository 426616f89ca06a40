"""--dry_run says what a run would do, and writes nothing."""

import re

import programs
import pytest

from trpo_tf.bin import flags

pytestmark = pytest.mark.slow

_VINE = '--preset=v5/hopper,v5/vine_short'
_COMMANDS = {
  'whole': ['--preset=v5/hopper', '--seed=3', '--total_iterations=9'],
  'vine': [_VINE, '--run_dir=new'],
  'every': [
    '--task=CartPole-v1',
    '--sampler=vine',
    '--vine_objective=all_actions',
    '--branch_proposal=all',
    '--rollout_set_size=10',
    '--branch_length=7',
  ],
  'run': [*programs.TINY, '--total_iterations=2', '--run_dir=run'],
  'resumed': [*programs.TINY, '--run_dir=run'],
  'refused': [*programs.TINY, '--run_dir=run', '--gamma=0.5'],
  'too_large': ['--batch_steps=2000000000'],
  'no_task': ['--task=Hopper-v55'],
}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  folder = tmp_path_factory.mktemp('dry')
  commands = [
    [*command, *(() if name == 'run' else ('--dry_run',))]
    for name, command in _COMMANDS.items()
  ]
  found = programs.run('train', commands, folder)
  written = {p.name for p in folder.iterdir()}
  assert written == {'run', 'commands.json', 'results.json'}
  return dict(zip(_COMMANDS, found, strict=True))


def _said(result):
  assert (result.code, result.stderr) == (0, '')
  return [x for x in result.stdout.splitlines() if x.startswith('# ')][2:]


def test_the_output_is_a_flagfile(results, tmp_path):
  said = _said(results['whole'])
  path = tmp_path / 'x.flags'
  path.write_text(results['whole'].stdout)
  config = flags.parse([f'--flagfile={path}'])
  assert config == flags.parse(_COMMANDS['whole'])
  assert said[0] == '# policy: 5,126 parameters, 11 inputs, 3 outputs'
  assert said[1] == '# an iteration: 2,000 env steps'
  assert said[2] == '# iterations: 9'
  assert re.match(r'# memory: about \d\.\d+ GB of ', said[3])
  assert said[4] == '# directory: none, --run_dir is missing'


def test_branches_and_directories(results):
  said = _said(results['vine'])
  config = flags.parse([_VINE])
  most = f'up to {config.max_branch_steps():,} on branches'
  assert said[1].endswith(f'env steps on trunks, and {most}')
  assert said[2].startswith('# iterations: at most ')
  assert said[4] == '# directory: new is new'
  every = _said(results['every'])  # two actions, whatever --branch_actions says
  assert every[1].endswith('and up to 140 on branches')
  again = _said(results['resumed'])
  assert again[4] == (
    '# directory: run holds this run, which goes on after iteration 2'
  )


@pytest.mark.parametrize(
  ('name', 'says'),
  [
    ('refused', 'holds a run with other settings: --gamma=0.99 there'),
    ('too_large', 'of memory'),
    ('no_task', 'did you mean Hopper-v5?'),
  ],
)
def test_mistakes_are_found(results, name, says):
  result = results[name]
  assert result.code == 2 and says in result.stderr
  assert result.stdout == ''
