"""The sdist holds what a build needs; its wheel works away from the checkout.

Also what CMake says of a MuJoCo that it cannot use.
"""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _run(*command, cwd, **environ) -> subprocess.CompletedProcess[str]:
  """Runs the Python of the tests without LD_LIBRARY_PATH."""
  inherited = {
    k: v
    for k, v in os.environ.items()
    if k not in ('LD_LIBRARY_PATH', 'PYTHONPATH')
  }
  return subprocess.run(
    [sys.executable, *map(str, command)],
    cwd=cwd,
    env=inherited | environ,
    capture_output=True,
    text=True,
  )


def _check(result: subprocess.CompletedProcess[str]) -> str:
  """The standard output of a command that has to succeed."""
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


@pytest.fixture(scope='module')
def sdist(tmp_path_factory) -> pathlib.Path:
  """The source archive of the checkout."""
  folder = tmp_path_factory.mktemp('sdist')
  _check(
    _run(
      '-c',
      'import sys, scikit_build_core.build as build; '
      'build.build_sdist(sys.argv[1])',
      folder,
      cwd=ROOT,
    )
  )
  (archive,) = folder.glob('trpo_tf-*.tar.gz')
  return archive


@pytest.fixture(scope='module')
def site(sdist, tmp_path_factory) -> pathlib.Path:
  """A folder with the package installed from the wheel of the sdist.

  MuJoCo lies beside the package there, as in every site-packages.
  """
  folder = tmp_path_factory.mktemp('wheel')
  pip = ['-m', 'pip', '-q']
  _check(
    _run(
      *pip,
      'wheel',
      '--no-deps',
      '--no-build-isolation',
      '-w',
      folder,
      sdist,
      cwd=folder,
    )
  )
  (wheel,) = folder.glob('trpo_tf-*.whl')
  target = folder / 'site'
  _check(
    _run(*pip, 'install', '--no-deps', '--target', target, wheel, cwd=folder)
  )
  mujoco = pathlib.Path(sysconfig.get_path('platlib')) / 'mujoco'
  (target / 'mujoco').symlink_to(mujoco)
  return target


def test_sdist_holds_sources_and_nothing_generated(sdist):
  with tarfile.open(sdist) as archive:
    names = {name.split('/', 1)[1] for name in archive.getnames()}
  tracked = [
    'pyproject.toml',
    'CMakeLists.txt',
    'LICENSE',
    'Dockerfile',
    'configs/v5/hopper.flags',
    'trpo_tf/config/groups.py',
    'trpo_tf/py.typed',
  ]
  tracked += [f'csrc/{path.name}' for path in ROOT.glob('csrc/*.[ch]*')]
  assert set(tracked) <= names
  assert not [n for n in names if n.startswith(('.venv', 'build', 'runs'))]
  assert not [n for n in names if n.endswith(('.so', '.pyc'))]


def test_wheel_imports_from_another_folder(site, tmp_path):
  """-S keeps the editable install of the checkout out of the process."""
  packages = [str(site), sysconfig.get_path('purelib')]
  printed = _check(
    _run(
      '-S',
      '-c',
      'import trpo_tf.config, trpo_tf.sampling._native as n; '
      'import trpo_tf.sampling._atari as a; '
      'print(trpo_tf.config.__file__, n.__file__, a.__file__)',
      cwd=tmp_path,
      PYTHONPATH=os.pathsep.join(packages),
    )
  )
  for file in printed.split():
    assert pathlib.Path(file).is_relative_to(site)


def test_wheel_holds_the_presets(site):
  for file in ROOT.glob('configs/**/*.flags'):
    installed = site / 'trpo_tf' / file.relative_to(ROOT)
    assert installed.read_bytes() == file.read_bytes()


_LOOP = """
import gymnasium, trpo_tf
policy, env = trpo_tf.load_policy('run'), gymnasium.make('InvertedPendulum-v5')
observation, done = env.reset(seed=0)[0], False
while not done:
  observation, _, terminated, truncated, _ = env.step(policy.act(observation))
  done = terminated or truncated
print(trpo_tf.__file__)
"""


def test_programs_and_policies_in_an_empty_folder(site, tmp_path):
  packages = os.pathsep.join([str(site), sysconfig.get_path('purelib')])

  def python(*command):
    command = '-S', '-X', 'utf8', *command
    return _check(_run(*command, cwd=tmp_path, PYTHONPATH=packages))

  def script(name, *arguments):
    return python(site / 'bin' / f'trpo-{name}', *arguments)

  assert 'v5/hopper ' in script('train', '--list_presets')
  short = '--total_iterations=2', '--batch_steps=400', '--noprogress'
  said = script(
    'train', '--preset=v5/inverted_pendulum', *short, '--run_dir=run'
  )
  assert said.startswith('evaluate with: ')
  said = script('evaluate', '--run_dir=run', '--episodes=2')
  assert 'InvertedPendulum-v5 after 800 env steps' in said
  script('plot', 'run', '--out=curve.png')
  script('table', 'run', '--out=table.md')
  file = python('-c', _LOOP)
  assert pathlib.Path(file.strip()).is_relative_to(site)
  assert {p.name for p in tmp_path.iterdir()} == {
    'curve.png',
    'run',
    'table.md',
  }


def test_wheel_holds_the_models(site):
  models = [path.relative_to(ROOT) for path in ROOT.glob('trpo_tf/**/*.xml')]
  assert models
  for model in models:
    assert (site / model).read_bytes() == (ROOT / model).read_bytes()


def test_extension_finds_mujoco_by_its_own_path(site, tmp_path):
  """Nothing else in the process has loaded the library."""
  (extension,) = site.glob('trpo_tf/sampling/_native*.so')
  maps = _check(
    _run(
      '-S',
      '-c',
      'import ctypes, sys; ctypes.CDLL(sys.argv[1]); '
      "print(open('/proc/self/maps').read())",
      extension,
      cwd=tmp_path,
    )
  )
  assert '/mujoco/libmujoco.so.' in maps


@pytest.mark.parametrize(
  ('files', 'message'),
  [
    ((), 'found 0 files libmujoco.so.*'),
    (
      ('libmujoco.so.3.9.0', 'libmujoco.so.4.0.0'),
      'found 2 files libmujoco.so.*',
    ),
    (('libmujoco.so.3.9.0',), 'no include/mujoco/mjbatch.h'),
  ],
)
def test_cmake_names_a_damaged_mujoco(tmp_path, files, message):
  package = tmp_path / 'mujoco'
  package.mkdir()
  for name in ('__init__.py', *files):
    (package / name).touch()
  result = _run(
    '-m',
    'cmake',
    '-S',
    ROOT,
    '-B',
    tmp_path / 'build',
    f'-DPython_EXECUTABLE={sys.executable}',
    cwd=tmp_path,
    PYTHONPATH=str(tmp_path),
  )
  said = ' '.join(result.stderr.split())
  assert result.returncode != 0
  assert message in said
  assert str(package) in said
  assert f'Python asked: {sys.executable}' in said
  assert 'install --force-reinstall --no-deps' in said
