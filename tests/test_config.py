"""Options, presets and the command line: what is accepted, what is refused, and in what words."""

import dataclasses
import errno
import io
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import types
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import checks
import commandline
import config
import cvrl
import dreamer
import faults
import mummi
import provenance
import variants
from config import FIELDS, LARGEST, PRESETS, SENSORS, Config, UserError

ROOT = pathlib.Path(config.__file__).parent
METHODS = {method.name: method for method in (mummi.METHOD, cvrl.METHOD, dreamer.METHOD)}
MODEL_FIELDS = [name for name, field in FIELDS.items() if field.metadata['model']]


def parse(*words, method=mummi.METHOD):
    return commandline.parse(method, ['--logdir', 'unused', '--no-natural', *words])


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    """Runs a script in the project's folder where TensorFlow and the simulator say that they
    were imported, and end the process. Returns (exit code, output, errors)."""
    folder = tmp_path_factory.mktemp('poison')
    for name in 'tensorflow', 'tf_keras', 'dm_control', 'mujoco':
        (folder / f'{name}.py').write_text(f'raise SystemExit("imported {name}")\n')

    def run(method, *words):
        done = subprocess.run(
            [sys.executable, f'{method}.py', *words], cwd=ROOT, text=True, timeout=60,
            capture_output=True, env=os.environ | {'PYTHONPATH': str(folder), 'COLUMNS': '1000'})
        return done.returncode, done.stdout, done.stderr
    return run


# --- Help ---


@pytest.fixture(scope='module')
def helps(script):
    """Method -> what --help prints."""
    texts = {}
    for method in METHODS:
        code, texts[method], errors = script(method, '--help')
        assert (code, errors) == (0, '')
    return texts


def test_every_field_is_of_the_type_that_it_is_read_as():
    assert typing.get_type_hints(Config) == {
        name: field.type for name, field in FIELDS.items()}


def test_every_field_has_a_sentence_of_help():
    for name, field in FIELDS.items():
        text = field.metadata['help']
        assert len(text) > 10 and text.endswith('.') and text[0] == text[0].upper(), name


def test_a_right_command_line_goes_on_to_import_tensorflow(script, tmp_path):
    # The other tests rely on it that such an import would be seen.
    for method in METHODS:
        code, out, errors = script(method, '--logdir', str(tmp_path / 'run'), '--no-natural')
        assert (code, out, errors) == (1, '', 'imported tensorflow\n')


@pytest.mark.parametrize('method', METHODS)
def test_help_names_each_option_once_in_its_section_with_help_and_default(method, helps):
    wanted = [(name, field.metadata['section']) for name, field in FIELDS.items()
              if name in METHODS[method].own or not field.metadata['own']]
    section, found, texts = None, [], []
    for line in helps[method].splitlines():
        if line.endswith(':') and not line.startswith(' '):
            section = line[:-1]
        elif option := re.match(r'  --(\w+) ', line):
            found.append((option[1], section))
            texts.append(line)
        elif texts:
            texts[-1] += line
    assert found == wanted
    for (name, _), text in zip(found, texts, strict=True):
        default = METHODS[method].defaults.get(name, FIELDS[name].default)
        shown = '' if default == '' else f' [{default}]'
        assert text.endswith(f' {FIELDS[name].metadata["help"]}{shown}')


def test_sections_hold_every_field_once_in_order():
    found = {field.name: section for section, fields in config.sections().items()
             for field in fields}
    assert list(found) == list(FIELDS)
    assert sum(map(len, config.sections().values())) == len(FIELDS)
    some = dict(logdir='Run', natural='Environment', batch='Replay', prefill='Schedule',
                deter='World model', horizon='Behaviour', clip='Optimisers')
    assert some.items() <= found.items()


def test_methods_own_and_change_what_is_published():
    assert {name: (method.own, dict(method.defaults)) for name, method in METHODS.items()} == {
        'mummi': (('bound_weight', 'density_ratio', 'expert_width', 'fusion', 'prior_expert',
                   'probe_frames', 'sensor_loss'), {'refine_actions': True}),
        'cvrl': (('obs_model', 'probe_frames', 'reward_only'),
                 {'refine_actions': True, 'refine_plan': 'all'}),
        'dreamer': ((), {})}


def test_method_cannot_be_changed_and_knows_the_options():
    with pytest.raises(dataclasses.FrozenInstanceError):
        mummi.METHOD.name = 'other'
    with pytest.raises(TypeError):
        mummi.METHOD.defaults['units'] = 3
    with pytest.raises(ValueError, match='batch, unit'):
        config.Method('mine', own=('probe_frames', 'batch'), units=3, unit=4)
    with pytest.raises(ValueError, match='preset, task'):
        config.Method('mine', preset='cpu', task='gym_Pendulum-v1')


# --- Values ---


@pytest.mark.parametrize('words, name, value', [
    (['--steps', '2e6'], 'steps', 2000000),
    (['--steps=5012'], 'steps', 5012),
    (['--eval_episodes', '0'], 'eval_episodes', 0),
    (['--batch', '1', '--batch', '7'], 'batch', 7),
    (['--discount', '1'], 'discount', 1.0),
    (['--model_rate', '1e-3'], 'model_rate', 0.001),
    (['--natural', 'False'], 'natural', False),
    (['--no-natural'], 'natural', False),
    (['--natural=false'], 'natural', False),
    (['--natural'], 'natural', True),
    (['--natural', 'True'], 'natural', True),
    (['--pcont', '--batch', '3'], 'pcont', True),
    (['--pcont', '--no-pcont'], 'pcont', False),
    (['--no-refine_actions'], 'refine_actions', False),
    (['--task', 'dmc_ball_in_cup_catch'], 'task', 'dmc_ball_in_cup_catch'),
    (['--density_ratio', 'bilinear'], 'density_ratio', 'bilinear'),
    (['--sensors', 'touch,image'], 'sensors', 'touch,image'),
    (['--miss_ratio', '0.1'], 'miss_ratio', 0.1),
    (['--miss_ratio', '0'], 'miss_ratio', 0.0),
    (['--miss_ratio', 'image=0.1,depth=0.05'], 'miss_ratio', {'image': 0.1, 'depth': 0.05}),
    (['--miss_ratio', 'touch=1'], 'miss_ratio', {'touch': 1.0}),
])
def test_option_gets_the_value_that_its_word_says(words, name, value, tmp_path):
    (tmp_path / 'videos').touch()
    # Without backgrounds they are refused.
    videos = [f'--natural_{split}={tmp_path / "videos"}' for split in ('train', 'valid')
              if (name, value) == ('natural', True)]
    found = getattr(parse(*videos, *words), name)
    assert found == value and type(found) is type(value)


def test_ratio_of_a_sensor_that_is_not_named_is_zero():
    assert config.ratios(0.2, ('image', 'touch')) == {'image': 0.2, 'touch': 0.2}
    assert config.ratios({'image': 0.3, 'depth': 1}, ('image', 'touch')) == {
        'image': 0.3, 'touch': 0.0}


def test_words_overrule_the_method_which_overrules_the_preset():
    changed = config.Method('changed', units=123, horizon=7)
    assert parse('--preset', 'debug', method=changed).deter == PRESETS['debug']['deter']
    assert parse('--preset', 'debug', method=changed).units == 123
    found = parse('--preset', 'debug', '--units', '5', method=changed)
    assert (found.units, found.horizon) == (5, 7)


def number(low, high, kind):
    if kind is int:
        return st.integers(low, 2 ** 32 - 1 if high is None else high)
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@pytest.fixture
def endless(monkeypatch):
    """A machine on which no settings are too large."""
    monkeypatch.setattr(checks, 'available', lambda: math.inf)


@pytest.fixture
def judgeable(tmp_path):
    """The words that judge a run, of which there are the files that commandline.py looks at."""
    (tmp_path / 'state-000000007.index').touch()
    commandline.save(Config(logdir=str(tmp_path), natural=False), 'mummi', str(
        tmp_path / 'config.json'))
    return ['--logdir', str(tmp_path), '--test']


@st.composite
def configs(draw):
    """Any configuration that is valid, with files that exist as videos."""
    sensors = st.lists(st.sampled_from(list(SENSORS)), min_size=1, unique=True)
    ratio = st.floats(0, 1)
    names = dict(
        logdir=st.text(
            st.characters(exclude_characters='/\0', exclude_categories=['Cs']), min_size=1,
            max_size=60).filter(lambda text: '~' not in text and ':' not in text),
        natural_train=st.just(__file__),
        natural_valid=st.sampled_from([__file__, config.__file__]),
        task=st.from_regex(r'dmc_[a-z0-9]+_[a-z_0-9]+', fullmatch=True),
        sensors=st.just('all') | sensors.map(','.join),
        miss_ratio=ratio, steps=st.integers(10 ** 6, LARGEST), prefill=st.integers(1, 10 ** 6),
        checkpoint=st.just(''),
        test_ratios=st.just(FIELDS['test_ratios'].default), test_episodes=st.just(10),
        full_actions=st.just(False),
        length=st.integers(2, 50), time_limit=st.integers(980, 10000),
        action_repeat=st.integers(1, 20), test=st.just(False), inspect=st.just(False),
        export_half=st.just(True))
    values = {}
    if not draw(st.booleans()):
        names |= dict(sensors=st.just('all'), miss_ratio=st.dictionaries(
            st.sampled_from([name for name, row in SENSORS.items() if not row.by_name]), ratio,
            min_size=1))
    if draw(st.booleans()):
        names |= dict(xla=st.just(False))
    else:  # which compiles for one device
        names |= dict(devices=st.just(FIELDS['devices'].default))
    if not draw(st.booleans()):
        names |= dict(use_dreamer=st.just(True))
    else:
        names |= dict(use_dreamer=st.just(False), use_sac=st.just(True))
    for name, field in FIELDS.items():
        known = field.metadata
        if known['own'] and name not in mummi.METHOD.own:
            continue  # which a command line of MuMMI has not
        if name in names:
            strategy = names[name]
        elif field.type is bool:
            strategy = st.booleans()
        elif field.type is str or known['choices']:
            strategy = st.sampled_from(known['choices'] or [field.default])
        else:
            strategy = number(known['low'], known['high'], field.type)
        values[name] = draw(strategy)
    # What does nothing beside the others is as it is untyped.
    wanted, usual = Config(**values), PRESETS[values['preset']] | mummi.METHOD.defaults
    return dataclasses.replace(wanted, **{
        name: usual.get(name, FIELDS[name].default) for name in checks.unused(wanted, values)})


def typed(settings_):
    """The fields with their types: 1, 1.0 and True are equal."""
    return {name: (type(value), value) for name, value in vars(settings_).items()}


@settings(max_examples=50, deadline=None)
@given(configs())
def test_any_valid_configuration_can_be_typed(wanted):
    def word(value):
        if isinstance(value, dict):
            return ','.join(f'{name}={ratio!r}' for name, ratio in value.items())
        return str(value)
    words = [f'--{name}={word(value)}' for name, value in vars(wanted).items()
             if not name.startswith(('test_', 'export_'))
             and (value != '' or name not in ('export', 'init', 'checkpoint'))  # no path
             and (name in mummi.METHOD.own or not FIELDS[name].metadata['own'])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, 'available', lambda: math.inf)
        assert typed(commandline.parse(mummi.METHOD, words)) == typed(wanted)
        # And by the command that the card of its agent names.
        words = provenance.words(wanted, mummi.METHOD) + [f'--logdir={wanted.logdir}']
        found = commandline.parse(mummi.METHOD, words)
        assert typed(found) == typed(wanted) | {'dry_run': (bool, False)}


def test_the_command_of_a_run_whose_preset_is_no_more_has_its_numbers():
    wanted = dataclasses.replace(parse('--batch', '7'), preset='gone')
    words = provenance.words(wanted, mummi.METHOD)
    assert '--preset' not in words and words[words.index('--batch') + 1] == '7'


# --- Mistakes ---


@pytest.mark.parametrize('method, words, part', [
    ('mummi', ['--stesp', '5'], '--steps?'),
    ('cvrl', ['--time_limit', '90'], '--length 50'),
    ('dreamer', ['--fusion', 'deviation'], '--fusion is an option of other methods')])
def test_mistake_is_one_line_that_names_it_before_tensorflow_is_imported(
        method, words, part, script):
    code, out, errors = script(method, '--logdir', 'unused', '--no-natural', *words)
    assert (code, out) == (2, '')
    assert errors.startswith('error: ') and errors.count('\n') == 1 and errors[-1] == '\n'
    assert part in errors


@pytest.mark.parametrize('words, parts', [
    (['--stesp', '5'], ['--stesp', '--steps?']),
    (['--no-seed', '5'], ['unknown option --no-seed', '--seed?']),
    (['--refine-actions'], ['--refine-actions', '--refine_actions?']),
    (['--step', '5'], ['--step ', '--steps?']),
    (['--no-batch'], ['--no-batch']),
    (['word'], ['word']),
    (['--qqqqq'], ['unknown option --qqqqq for mummi.py; --help']),
    (['--preset', 'big'], ['--preset', 'paper, cpu, small, debug', "'big'"]),
    (['--render', 'none'], ['--render', 'light, full', "'none'"]),
    (['--steps', 'many'], ['--steps', 'a whole number from 1', "'many'"]),
    (['--steps', '1.5'], ['--steps', 'a whole number', "'1.5'"]),
    (['--steps', '1e400'], ['--steps', 'a whole number', "'1e400'"]),
    (['--steps'], ['--steps']),
    (['--steps='], ['--steps', "''"]),
    (['--clip', 'strong'], ['--clip', 'a number from 0', "'strong'"]),
    (['--clip', 'nan'], ['--clip', "'nan'"]),
    (['--clip', 'inf'], ['--clip', "'inf'"]),
    (['--picture_size', '48'], ['--picture_size', '32, 64', "'48'"]),
    (['--picture_size', '-64'], ['--picture_size', '32, 64', "'-64'"]),
    (['--xla', 'maybe'], ['--xla', 'True or False', "'maybe'"]),
    (['--batch', '0'], ['--batch', 'from 1', "'0'"]),
    (['--seed', '-1'], ['--seed', 'from 0', "'-1'"]),
    (['--discount', '1.01'], ['--discount', 'from 0 to 1', "'1.01'"]),
    (['--miss_ratio', '1.1'], ['--miss_ratio', 'from 0 to 1', "'1.1'"]),
    (['--miss_ratio', 'image=-0.1'], ['--miss_ratio', 'from 0 to 1', "'image=-0.1'"]),
    (['--miss_ratio', 'smell=0.1'], ['--miss_ratio', 'image, depth, touch', "'smell=0.1'"]),
    (['--miss_ratio', 'image=0.1,0.2'], ['--miss_ratio', '<sensor>=<number>']),
    (['--miss_ratio', 'image'], ['--miss_ratio', "'image'"]),
    (['--sensors', 'image,smell'], ['--sensors', 'image,depth,touch', "'image,smell'"]),
    (['--sensors', 'image,image'], ['--sensors', "'image,image'"]),
    (['--sensors', ''], ['--sensors', "''"]),
    (['--task', 'walker_walk'], ["'walker_walk'", 'dmc_<domain>_<task>', 'dmc_walker_walk']),
    (['--task', 'dmc_walker'], ["'dmc_walker'", 'dmc_<domain>_<task>']),
    (['--task', 'dmc__walk'], ["'dmc__walk'", 'dmc_<domain>_<task>']),
    (['--task', 'robo_walk'], ["'robo_walk'", 'dmc_<domain>_<task>', 'gym_<id>', 'atari_<game>']),
    (['--task', 'gym_'], ["'gym_'", 'gym_<module>:<id>', '--task gym_Pendulum-v1']),
    (['--task', 'atari_'], ["'atari_'", 'atari_<game>', '--task atari_pong']),
    (['--task', 'gym_Pendulum-v1', '--natural'], ['--natural', 'gym_Pendulum-v1']),
    (['--full_actions'], ['--full_actions', 'atari_<game>', 'dmc_walker_walk']),
    (['--task', 'atari_pong', '--sensor_map', 'image=rgb'], ['--sensor_map', 'gym_<id>']),
    *((['--task', 'gym_Pendulum-v1', '--sensor_map', text], ['--sensor_map', repr(text)])
      for text in ('image', 'smell=rgb', 'image=', 'image=a,image=b', 'image=a+', '=a')),
    (['--natural', '--natural_train', 'gone.pkl'], [
        '--natural_train gone.pkl', 'natural.py', '--no-natural']),
    (['--natural', '--natural_valid', 'gone.pkl'], [
        '--natural_valid gone.pkl', 'natural.py', '--no-natural']),
    (['--logdir', ''], ['--logdir']),
    (['--logdir', 'config.py'], ['--logdir config.py', 'is a file']),
    (['--logdir', 'config.py/run'], ['--logdir config.py/run', 'config.py is a file']),
    (['--checkpoint', 'state-000000001'], ['--checkpoint', '--test', '--inspect']),
    (['--time_limit', '90'], ['--length 50', '46 entries']),
    (['--miss_ratio', 'image=0.1,image=0.2'], ['--miss_ratio', 'each sensor once']),
    (['--sensors', 'image', '--miss_ratio', 'touch=0.1'], ['names touch', '--sensors image']),
    (['--miss_ratio', 'audio=0.5'], ['--miss_ratio names audio', '--sensors all']),
    (['--withhold', 'proprioception=0.5'], ['--withhold names proprioception', '--sensors all']),
    (['--task', 'wipe_table', '--length', '300'], ['--length 300', 'the 201 entries']),
    (['--no-refine_actions', '--refine_rate', '0.1'], [
        '--refine_rate does nothing without --refine_actions; leave it out']),
    (['--natural_variety'], ['--natural_variety does nothing without --natural and a ']),
    (['--natural_train', 'nowhere.pkl'], ['--natural_train does nothing without --natural and a ']),
    (['--natural_valid', 'nowhere.pkl'], ['--natural_valid does nothing without --natural and a ']),
    (['--sensors', 'touch', '--render', 'full'], [
        '--render does nothing without a picture among --sensors; leave it out']),
    (['--natural', '--natural_train', __file__, '--natural_valid', __file__, '--natural_variety',
      '--sensors', 'depth,touch'], [
          '--natural_variety does nothing without --natural and a picture in colour; leave']),
    (['--sac_weight', '0.3'], ['--sac_weight does nothing without --use_sac']),
    *((['--use_sac', '--no-use_dreamer', f'--{name}', value], [
        f'--{name} does nothing with --no-use_dreamer']) for name, value in (
            ('entropy_bonus', '1'), ('actor_gradient', 'reinforce'))),
    (['--search_candidates', '1'], ['--search_candidates does nothing with one candidate']),
    (['--withhold', '1'], ['--withhold does nothing', 'all at a chance of 1']),
    (['--kl_balance', '1', '--free_nats', '5'], ['--free_nats does nothing with --kl_balance 1']),
    (['--corrupt', '0.1'], ['--corrupt', '<sensor>=<fault>:<number>', 'image, depth', "'0.1'"]),
    (['--corrupt', 'smell=noise:1'], ['image, depth, touch', "'smell=noise:1'"]),
    (['--corrupt', 'touch=rust:1'], ['noise, spikes, patch, freeze, delay', "'touch=rust:1'"]),
    (['--corrupt', 'image=noise:0.1,depth'], ['--corrupt', "'depth'"]),
    (['--corrupt', 'image=noise'], ['--corrupt image=noise:<number>', 'deviation', "''"]),
    (['--corrupt', 'image=patch:1.5'], ['image=patch', 'a number from 0 to 1', 'share', "'1.5'"]),
    (['--corrupt', 'image=noise:nan'], ['a number from 0 to 100', "'nan'"]),
    (['--corrupt', 'image=delay:0.5'], ['a whole number from 0', 'decisions', "'0.5'"]),
    (['--corrupt', 'image=freeze:-1'], ['from 0 to 1', "'-1'"]),
    (['--corrupt', 'audio=noise:1'], ['names audio', '--sensors all']),
    (['--sensors', 'touch', '--corrupt', 'image=noise:1'], ['names image', '--sensors touch']),
    (['--corrupt', 'image=noise:0.1,image=noise:0.10'], ['image=noise:0.1 twice']),
    (['--export', ''], ['--export takes a path', 'is empty']),
    (['--init='], ['--init takes a path', 'is empty']),
    (['--test', '--checkpoint', ''], ['--checkpoint takes a path', 'is empty']),
    (['--preset', 'debug', '--steps', '100'], ['--prefill 200', '--steps 100']),
    (['--test', '--inspect'], ['--test and --inspect']),
    (['--dry_run', '--test'], ['--dry_run and --test']),
    (['--dry_run', '--inspect'], ['--dry_run and --inspect']),
    (['--test_ratios', '0'], ['--test_ratios is for --test']),
    (['--test_ratios', '0', '--inspect'], ['--test_ratios is for --test']),
    (['--test_episodes', '10'], ['--test_episodes is for --test']),
    (['--init', 'x', '--test'], ['--init is for a new run, not for --test']),
    (['--no-export_half', '--test'], ['--export_half is for --export']),
    (['--test', '--export', 'x'], ['--test and --export']),
    (['--checkpoint', 'x', '--dry_run'], ['--checkpoint is for --test, --inspect and --export']),
    (['--deter', '100000000'], ['GB of memory', 'for --deter 100000000, and']),
    (['--hidden', '100000000'], ['GB of memory', '--hidden 100000000']),
    (['--stoch', '100000000000'], ['GB of memory', '--stoch 100000000000']),
    (['--units', '1000000'], ['GB of memory', '--units 1000000']),
    (['--conv_depth', '100000'], ['GB of memory', '--conv_depth 100000']),
    (['--expert_width', '1000000'], ['GB of memory', '--expert_width 1000000']),
    (['--vector_units', '1000000'], ['GB of memory', '--vector_units 1000000']),
    (['--decoder_units', '1000000'], ['GB of memory', '--decoder_units 1000000']),
    (['--envs', '100000'], ['GB of memory', '--envs 100000']),
    (['--batch', '1000000000'], ['GB of memory', 'for --batch 1000000000, and']),
    (['--batch', '10000000', '--sensors', 'touch'], ['GB of memory', '--batch 10000000']),
    (['--search_candidates', '1000000000'], ['GB of memory', '--search_candidates']),
    (['--horizon', '1001'], ['--horizon', 'from 2 to 1000,', "'1001'"]),
    (['--steps', '99999999999999999999'], ['--steps', 'from 1 to 1000000000000,']),
    (['--steps', '9' * 5000], ['--steps', '9...']),
    (['--clip', '1e300'], ['--clip', 'from 0 to 1000000000000,']),
    (['--seed', '99999999999999999999'], ['--seed', 'from 0 to 4294967295,']),
    (['--natural', '--natural_train', 'tests'], ['--natural_train tests is a folder']),
    (['--natural', '--natural_train', __file__, '--natural_valid', 'tests'], [
        '--natural_valid tests is a folder']),
    (['--logdir', 'x' * 300], ['--logdir is too long']),
    (['--logdir', 'x/' * 2500], ['--logdir is too long']),
    (['--logdir', 'ab\udcff'], ['--logdir takes text in UTF-8', 'udcff']),
    (['--task', 'dmc_\udcff_walk'], ['--task takes text in UTF-8']),
    (['--steps', '5\n6'], ['--steps', '5\\n6']),
    (['--wrong\nword'], ['unknown option --wrong\\nword'])])
def test_mistake_is_told_from_the_command_line_alone(words, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, 'available', lambda: 24e9)
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'config.py').touch()
    with pytest.raises(UserError) as error:
        parse(*words)
    said = str(error.value)
    assert '\n' not in said and len(said) < 400, said
    for part in parts:
        assert part in said
    assert sorted(os.listdir(tmp_path)) == ['config.py', 'tests']


def test_the_largest_published_settings_fit_a_small_machine(monkeypatch):
    monkeypatch.setattr(checks, 'available', lambda: 4e9)
    parse('--envs', '8', '--search_candidates', '1000')


ODD = st.sampled_from([
    '', ' ', '0', '-1', '1e400', '9' * 30, '9' * 5000, 'nan', '-inf', '0x10', '1_0', '\u0663',
    '\u00b2', 'True', 'a=1', '=', ',', 'image', 'image=', '--', '-', '--test', '~', '~/x',
    '~nobody', 'dmc_a_b', '\0', '\n', '\udcff', '[', '*', '{}', '%s', '%(prog)s', 'gs://x',
    'file://', '..', '/', '/dev/null', 'x' * 300, 'x/' * 3000]) | st.one_of(
        st.text(max_size=8), st.integers().map(str), st.floats().map(str))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(
    ODD, st.sampled_from(list(FIELDS)).map('--{}'.format),
    st.sampled_from(list(FIELDS)).map('--no-{}'.format),
    st.tuples(st.sampled_from(list(FIELDS)), ODD).map(lambda pair: f'--{pair[0]}={pair[1]}')),
    max_size=6), st.booleans())
def test_any_command_line_is_a_configuration_or_a_mistake_in_one_line(words, with_folder):
    words = ['--logdir', 'unused', '--no-natural', *words] if with_folder else words
    try:
        found = commandline.parse(mummi.METHOD, words)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 7000
    else:
        assert isinstance(found, Config)


def test_paths_begin_at_the_users_folder_and_are_no_addresses(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in 'train', 'valid':
        (tmp_path / name).touch()
    found = commandline.parse(mummi.METHOD, [
        '--logdir=~/x', '--natural_train', '~/train', '--natural_valid=~/valid'])
    assert (found.logdir, found.natural_train, found.natural_valid) == tuple(
        str(tmp_path / name) for name in ('x', 'train', 'valid'))
    for text, wanted in {
            './~/x': './~/x', 'file:x': f'{tmp_path}/file:x', 'gs://x/y': f'{tmp_path}/gs:/x/y',
            '~nobody-at-all/x': f'{tmp_path}/~nobody-at-all/x', 'a/b': 'a/b', '-x': '-x'}.items():
        assert parse(f'--logdir={text}').logdir == wanted
    commandline.save(Config(logdir='here', natural=False), 'mummi', str(tmp_path / 'config.json'))
    (tmp_path / 'state-000000007.index').touch()
    assert parse('--logdir=~', '--test', '--checkpoint=~/state-000000007').checkpoint == str(
        tmp_path / 'state-000000007')


# --- The folder of a run ---


@pytest.mark.parametrize('name', ['episodes', 'videos', 'tensorboard'])
def test_file_where_a_run_needs_a_folder_is_named(name, tmp_path):
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=f'{name} is a file, .* a folder there'):
        parse('--logdir', str(tmp_path))


@pytest.mark.parametrize('name', ['lock', 'config.json', 'episodes.csv', 'metrics.csv'])
def test_folder_where_a_run_needs_a_file_is_named(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f'{name} is a folder, .* a file there'):
        parse('--logdir', str(tmp_path))


@pytest.mark.parametrize('purpose, name, make', [
    ('--test', 'results.csv', pathlib.Path.mkdir), ('--inspect', 'inspect', pathlib.Path.touch)])
def test_what_stands_where_judging_writes_is_named_before_it_plays(
        purpose, name, make, judgeable, tmp_path):
    parse(*judgeable[:2], purpose)
    make(tmp_path / name)
    with pytest.raises(UserError, match=f'{name} is a .* move it away'):
        parse(*judgeable[:2], purpose)


def test_a_name_that_is_too_long_while_it_is_written_is_told(judgeable, tmp_path):
    parse(*judgeable[:2], '--export', str(tmp_path / ('x' * 200)))
    with pytest.raises(UserError, match='--export is too long'):
        parse(*judgeable[:2], '--export', str(tmp_path / ('x' * 250)))


def test_folder_in_which_nothing_can_be_written_is_named(judgeable, monkeypatch, tmp_path):
    monkeypatch.setattr(os, 'access', lambda path, mode: path != str(tmp_path))
    with pytest.raises(UserError, match='cannot write in'):
        parse('--logdir', str(tmp_path / 'new'))
    with pytest.raises(UserError, match='cannot write in'):  # it only draws
        parse(*judgeable[:2], '--inspect')
    parse('--logdir', str(tmp_path / 'new'), '--dry_run')
    parse(*judgeable)  # it prints as well


def test_a_folder_that_cannot_be_read_is_a_line(tmp_path, monkeypatch, capsys):
    def refuse(path):
        raise PermissionError(errno.EACCES, 'Permission denied', path)
    monkeypatch.setattr(os, 'listdir', refuse)
    with pytest.raises(SystemExit) as ended:
        commandline.from_command_line(METHODS['mummi'], ['--logdir', str(tmp_path)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f'error: {tmp_path}: Permission denied\n'


def test_a_volume_is_no_folder_to_export_to(judgeable, monkeypatch, tmp_path):
    monkeypatch.setattr(os.path, 'ismount', lambda path: str(path) == str(tmp_path / 'volume'))
    parse(*judgeable[:2], '--export', str(tmp_path / 'volume' / 'agent'))
    with pytest.raises(UserError, match='name a folder in it'):
        parse(*judgeable[:2], '--export', str(tmp_path / 'volume'))


@pytest.mark.parametrize('code', [
    'import commandline\nwith commandline.answering("plots"): print("a", flush=True)',
    """
import types, training, evaluation
evaluation.test = lambda _: print('a', flush=True)
config = types.SimpleNamespace(dry_run=False, judging=True, test=True, logdir='run')
training.main(types.SimpleNamespace(config=config))"""])
def test_output_that_nobody_reads_is_a_line(code, unread):
    """As after `| head`; Python would add a line of its own, and end with another code."""
    result = subprocess.run(
        [sys.executable, '-c', code], stdout=unread(), stderr=subprocess.PIPE, text=True,
        check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == 'error: nobody reads what is printed (broken pipe)'


def test_ctrl_c_of_a_tool_is_a_line(capsys):
    with pytest.raises(SystemExit) as ended, commandline.answering('plots', '; begin again'):
        raise KeyboardInterrupt
    assert (ended.value.code, capsys.readouterr().err) == (130, '\ninterrupted; begin again\n')


def test_a_mistake_is_a_line_in_a_notebook_too(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdout', io.StringIO())
    with pytest.raises(SystemExit), commandline.answering('plots'):
        raise UserError('no')
    assert capsys.readouterr().err == 'error: no\n'


def test_run_without_a_checkpoint_of_its_own_is_not_judged(judgeable, tmp_path):
    parse(*judgeable)
    os.rename(tmp_path / 'state-000000007.index', tmp_path / 'state-000000007 (copy).index')
    (tmp_path / 'state-best.index').touch()
    with pytest.raises(UserError, match='no checkpoint in .* train first'):
        parse(*judgeable)
    for ending in '', '.index':
        parse(*judgeable, '--checkpoint', str(tmp_path / f'state-best{ending}'))
    with pytest.raises(UserError, match='no checkpoint .*state-7; type one as'):
        parse(*judgeable, '--checkpoint', str(tmp_path / 'state-7'))


def test_a_checkpoint_is_judged_where_its_run_is(judgeable, tmp_path, monkeypatch):
    """Its returns would stand among those of another run, and replace them."""
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'state-000000009.index').touch()
    words = [*judgeable, '--checkpoint', str(other / 'state-000000009')]
    parse(*words)  # kept apart by hand
    commandline.save(Config(), 'mummi', str(other / 'config.json'))
    for purpose in '--test', '--inspect', '--export=new':
        with pytest.raises(UserError, match=f'type --logdir {other}$'):
            parse(*judgeable[:2], purpose, *words[-2:])
    monkeypatch.chdir(tmp_path)
    parse('--logdir', '.', '--test', '--checkpoint', 'state-000000007')


def test_a_run_is_judged_with_the_faults_that_are_typed_and_no_others(judgeable, tmp_path):
    config = Config(logdir=str(tmp_path), natural=False, corrupt='image=noise:0.1', preset='cpu')
    commandline.save(config, 'mummi', str(tmp_path / 'config.json'))
    assert parse(*judgeable).corrupt == ''
    assert parse(*judgeable, '--corrupt', 'depth=delay:5').corrupt == 'depth=delay:5'
    assert parse(*judgeable[:2], '--inspect').corrupt == 'image=noise:0.1'
    # An agent that acts does so as it learned.
    assert commandline.parse(mummi.METHOD, judgeable, acting=True).corrupt == 'image=noise:0.1'


def test_a_preset_is_for_a_new_run(judgeable, tmp_path):
    config = Config(logdir=str(tmp_path), natural=False, preset='cpu')
    commandline.save(config, 'mummi', str(tmp_path / 'config.json'))
    assert parse(*judgeable, '--preset', 'cpu').preset == 'cpu'
    with pytest.raises(UserError, match='--preset debug is for a new run'):
        parse(*judgeable, '--preset', 'debug')


@pytest.mark.parametrize('name, known', [
    ('precision', 'bfloat26'), ('deter', -5), ('discount', 1.5), ('miss_ratio', {'nose': 0.1})])
def test_a_saved_value_that_cannot_be_is_told_before_it_is_judged(
        name, known, judgeable, tmp_path):
    config = dataclasses.replace(Config(logdir=str(tmp_path), natural=False), **{name: known})
    commandline.save(config, 'mummi', str(tmp_path / 'config.json'))
    with pytest.raises(UserError, match=f'config.json holds a value .* --{name} takes'):
        parse(*judgeable)


def test_a_run_needs_a_folder_and_a_dry_run_none(script):
    code, out, errors = script('cvrl', '--no-natural')
    assert (code, out, errors.count('\n')) == (2, '', 1) and '--logdir ./' in errors
    assert script('cvrl', '--no-natural', '--dry_run')[2] == 'imported tensorflow\n'


@pytest.mark.parametrize('method, name', [
    (method.name, name) for method in METHODS.values()
    for name in mummi.METHOD.own if name not in method.own])
def test_option_of_another_method_is_unknown(method, name):
    with pytest.raises(UserError) as error:
        parse(f'--{name}', str(FIELDS[name].default), method=METHODS[method])
    assert str(error.value).startswith(
        f'--{name} is an option of other methods, and not of {method}.py')
    assert f'did you mean --{name}' not in str(error.value)


@pytest.mark.parametrize('name', [
    name for name, field in FIELDS.items() if field.type is not str and field.type is not bool
    and not field.metadata['choices']
    and (name in mummi.METHOD.own or not field.metadata['own'])])
def test_number_is_accepted_to_the_ends_of_its_range_and_no_further(name, endless, judgeable):
    purpose = judgeable if name == 'test_episodes' else []
    field = FIELDS[name]
    low, high = field.metadata['low'], field.metadata['high']
    step = 1 if field.type is int else 1e-6
    for end, beyond in (low, low - step), (high, high + max(step, high * 1e-6 * (step < 1))):
        # A long sequence needs a long episode, whose limit is tried on its own, and so on.
        context = purpose or ['--length=2', '--time_limit=1000', '--action_repeat=1']
        context += ['--prefill=1'] if name == 'steps' else [f'--steps={LARGEST}']
        if name in ('sac_weight', 'critic_rate', 'temperature_rate'):
            context += ['--use_sac']
        if name == 'length':
            context += [f'--time_limit={LARGEST}']
        # All sensors at a chance of 1 would never be withheld, one is always.
        text, wanted = (f'image={end!r}', {'image': end}) if name == 'withhold' else (
            repr(end), end)
        assert getattr(parse(*context, f'--{name}={text}'), name) == wanted
        with pytest.raises(UserError, match=f'--{name} takes'):
            parse(*context, f'--{name}={beyond!r}')


def test_seed_that_the_environments_refuse_is_refused():
    with pytest.raises(UserError):
        parse('--seed', str(2 ** 32))


def test_longest_sequence_is_the_entries_of_an_episode():
    words = '--time_limit', '99', '--action_repeat', '2'
    # 49 decisions of two steps, one of the last step, and the entry of the reset.
    assert parse(*words, '--length', '51').length == 51
    with pytest.raises(UserError, match='52 is more than the 51 entries'):
        parse(*words, '--length', '52')
    # Sequences that go on into the next episode may be longer.
    assert parse(*words, '--length', '52', '--across_episodes').length == 52
    # Nothing is learned where a run is judged, on shorter episodes too.
    checks.check(dataclasses.replace(parse(*words), length=52, test=True))


def test_a_finished_agent_needs_no_training_videos():
    settings = dataclasses.replace(parse(), natural=True, natural_train='gone.pkl')
    with pytest.raises(UserError, match='gone.pkl'):
        checks.check(settings)
    for judging in dict(test=True), dict(inspect=True), dict(export='x'):
        checks.check(dataclasses.replace(settings, **judging))
        with pytest.raises(UserError, match='--natural_valid gone.pkl'):
            checks.check(dataclasses.replace(settings, natural_valid='gone.pkl', **judging))


def test_ratio_is_tested_once():
    def ratios(text):
        return config.test_ratios(Config(test_ratios=text))
    assert ratios('0,0.1,0,0.10,1e-1') == [0, 0.1]


def test_videos_are_found_in_the_working_folder_first_and_then_beside_the_scripts(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config.resolve('config.py') == str(ROOT / 'config.py')
    assert config.resolve('gone.pkl') == 'gone.pkl'
    (tmp_path / 'config.py').touch()
    assert config.resolve('config.py') == 'config.py'


# --- Presets ---


@pytest.mark.parametrize('preset', PRESETS)
def test_preset_changes_real_fields_to_values_that_could_be_typed(preset):
    assert set(PRESETS[preset]) < set(FIELDS)
    found = parse('--preset', preset)
    typed_ = parse(*(f'--{name}={value}' for name, value in PRESETS[preset].items()))
    for name, value in PRESETS[preset].items():
        assert getattr(found, name) == getattr(typed_, name) == value
        assert type(value) in (FIELDS[name].type, *typing.get_args(FIELDS[name].type)), name
    rest = set(FIELDS) - set(PRESETS[preset]) - {'preset', 'logdir', 'natural'}
    assert all(
        getattr(found, name) == mummi.METHOD.defaults.get(name, FIELDS[name].default)
        for name in rest)


def test_memory_is_estimated_by_the_starts_of_imagination(monkeypatch):
    """4,000 x 50 starts of 100 decisions of 830 numbers are 33 GB; a fiftieth of them fits."""
    monkeypatch.setattr(checks, 'available', lambda: 8e9)
    words = ('--sensors', 'touch', '--batch', '4000', '--horizon', '100', '--units', '600')
    with pytest.raises(UserError, match='GB of memory'):
        parse(*words)
    assert parse(*words, '--imagine_every', '50').batch == 4000


def test_memory_holds_the_videos_of_each_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, 'available', lambda: 8e9)
    with open(tmp_path / 'large.pkl', 'wb') as file:
        file.truncate(2 * 10 ** 9)  # of nothing that lies on the disk
    words = '--natural', '--natural_train', str(tmp_path / 'large.pkl')
    assert parse(*words, '--envs', '3').envs == 3
    with pytest.raises(UserError, match='--envs 5 --natural_train .*, or a file of fewer'):
        parse(*words, '--envs', '5')
    # They are loaded where there is a picture to put them into.
    words = '--natural', '--sensors', 'touch', '--envs', '5'
    assert dataclasses.replace(parse(*words), natural_train=str(tmp_path / 'large.pkl'))
    checks.memory(dataclasses.replace(parse(*words), natural_train=str(tmp_path / 'large.pkl')))


def test_a_script_whose_method_has_another_name_is_told_to_rename_it(monkeypatch, capsys):
    """Its runs would not be found again by what their configuration says."""
    monkeypatch.setattr(sys, 'argv', ['mine.py', '--dry_run', '--no-natural'])
    with pytest.raises(SystemExit) as ended:
        commandline.from_command_line(mummi.METHOD)
    assert ended.value.code == 2
    assert "METHOD of mine.py has the name 'mummi'" in capsys.readouterr().err
    monkeypatch.setattr(sys, 'argv', ['mummi.py', '--dry_run', '--no-natural'])
    assert commandline.from_command_line(mummi.METHOD).dry_run


def test_what_a_resumed_run_learns_otherwise_is_named():
    before = commandline.parse(mummi.METHOD, ['--logdir=unused', '--preset=debug'])
    now = dataclasses.replace(
        before, free_nats=1.0, withhold={'image': 0.5}, steps=700, logdir='other', envs=2,
        natural_train='other.pkl')
    assert commandline.changes(before, before) == ''
    assert commandline.changes(before, dataclasses.replace(before, seed=5)) == 'seed 5 (0 before)'
    assert commandline.changes(before, now) == (
        "free_nats 1.0 (3.0 before), withhold {'image': 0.5} (0.0 before)")


def test_choices_of_the_preset_are_the_presets():
    assert list(FIELDS['preset'].metadata['choices']) == list(PRESETS)
    assert FIELDS['preset'].default == 'paper'


def test_paper_preset_is_the_published_numbers():
    published = dict(
        batch=50, length=50, deter=200, stoch=30, hidden=200, conv_depth=32, vector_units=128,
        decoder_units=96, expert_width=1024, density_ratio='mse', units=400, free_nats=3,
        pcont=False, horizon=15, imagine_every=1, discount=0.99, disclam=0.95, explore_noise=0.3,
        refine_rate=0.003, search_candidates=0, use_sac=False, model_rate=6e-4,
        actor_rate=8e-5, value_rate=8e-5, critic_rate=8e-5, temperature_rate=3e-4, clip=30,
        weight_decay=0, slow_value=0, use_dreamer=True, refine_plan='first', refine_steps=1,
        fusion='deviation', prior_expert=False, sensor_loss='contrast', bound_weight='',
        encoder_activation='relu', actor_deviation=5, reward_weight=1,
        entropy_bonus=0, kl_balance=0, withhold=0, across_episodes=False, actor_gradient='dynamics',
        action_repeat=2, time_limit=1000, miss_ratio=0.05, natural=True, sensors='all',
        prefill=5000, pretrain=100, train_every=1000, train_updates=100, eval_every=10000,
        eval_episodes=1, steps=2000000)
    found = vars(commandline.parse(mummi.METHOD, [
        '--logdir=unused', f'--natural_train={__file__}', f'--natural_valid={__file__}']))
    assert {name: found[name] for name in published} == published


@pytest.mark.parametrize('words, wanted', [
    ([], dict(natural=False, action_repeat=1, time_limit=0, pcont=True, across_episodes=True)),
    (['--action_repeat', '3', '--no-pcont', '--time_limit', '170'],
     dict(natural=False, action_repeat=3, time_limit=170, pcont=False)),
    (['--preset', 'debug'], dict(natural=False, action_repeat=1, time_limit=100, pcont=True))])
def test_family_of_the_task_changes_defaults_and_explicit_options_win(words, wanted):
    found = vars(commandline.parse(
        mummi.METHOD, ['--logdir', 'unused', '--task', 'gym_Pendulum-v1', *words]))
    assert {name: found[name] for name in wanted} == wanted


def test_sensor_map_is_read_as_it_is_typed():
    assert config.sensor_keys('image=rgb,proprioception=state+goal') == {
        'image': ['rgb'], 'proprioception': ['state', 'goal']}
    assert config.sensor_keys('') == {}


def test_sensor_table_is_the_published_scales_and_weights():
    assert {name: (row.kind, row.scale, row.offset, row.bound_weight)
            for name, row in SENSORS.items() if not row.by_name} == {
        'image': ('picture', 1 / 255, -0.5, 1), 'depth': ('picture', 1 / 200, -0.5, 1),
        'touch': ('vector', 1 / 200, 0, 0.001)}
    # Those beside them leave what 'all' has had since then as it is.
    assert [name for name, row in SENSORS.items() if not row.by_name] == [
        'image', 'depth', 'touch']


def test_faults_are_read_in_order():
    assert faults.asked('') == []
    assert faults.asked('image=noise:0.1, touch=delay:3,image=noise:1e-3') == [
        ('image', 'noise', 0.1), ('touch', 'delay', 3), ('image', 'noise', 0.001)]
    assert parse('--corrupt', 'image=noise:0.1').corrupt == 'image=noise:0.1'
    assert parse('--sensors=audio', '--corrupt=audio=freeze:0.1').sensors == 'audio'


# --- Saved configurations ---


@settings(max_examples=50, deadline=None)
@given(wanted=configs(), method=st.sampled_from(list(METHODS)))
def test_any_valid_configuration_survives_saving_and_loading(wanted, method, tmp_path_factory):
    path = str(tmp_path_factory.getbasetemp() / 'survives.json')
    commandline.save(wanted, method, path)
    found, found_method = commandline.load(path)
    assert (typed(found), found_method) == (typed(wanted), method)
    commandline.check_resume(wanted, method, path)


@pytest.fixture
def saved(tmp_path):
    """(path, configuration) of a run of MuMMI."""
    path = str(tmp_path / 'config.json')
    settings_ = Config(logdir=str(tmp_path), steps=1000, miss_ratio={'touch': 0.5})
    commandline.save(settings_, 'mummi', path)
    return path, settings_


def other(field):
    """A value of the field that is not its default."""
    if field.type is bool:
        return not field.default
    if field.metadata['choices']:
        return next(c for c in field.metadata['choices'] if c != field.default)
    if field.type is str or isinstance(field.type, types.UnionType):
        return {'task': 'dmc_cheetah_run', 'sensors': 'image', 'miss_ratio': 0.3}.get(
            field.name, 'other')
    return field.default / 2 if field.type is float and field.default else field.default + 1


def test_fields_that_shape_the_model_are_marked():
    assert {
        'task', 'sensors', 'action_repeat', 'deter', 'stoch', 'hidden', 'conv_depth',
        'vector_units', 'decoder_units', 'expert_width', 'density_ratio', 'units', 'pcont',
        'use_sac', 'fusion', 'prior_expert', 'sensor_loss', 'obs_model', 'reward_only'} <= set(
            MODEL_FIELDS)


@pytest.mark.parametrize('name', MODEL_FIELDS)
def test_resuming_with_another_model_names_the_field_and_both_values(name, saved):
    path, before = saved
    now = dataclasses.replace(before, **{name: other(FIELDS[name])})
    with pytest.raises(UserError) as error:
        commandline.check_resume(now, 'mummi', path)
    assert f'{name} ({getattr(before, name)} in the run, {getattr(now, name)} now)' in str(
        error.value)
    assert before.logdir in str(error.value)
    for another in set(MODEL_FIELDS) - {name}:
        assert f' {another} (' not in str(error.value)


def test_resuming_names_all_changed_fields(saved):
    path, before = saved
    with pytest.raises(UserError, match=r'deter \(200 .* 1 now\).*units \(400 .* 2 now\)'):
        commandline.check_resume(dataclasses.replace(before, deter=1, units=2), 'mummi', path)


def test_resuming_with_another_schedule_or_other_rates_passes(saved):
    path, before = saved
    free = {name: other(field) for name, field in FIELDS.items()
            if name not in MODEL_FIELDS and name != 'logdir'}
    assert {'steps', 'envs', 'batch', 'seed', 'model_rate', 'miss_ratio'} < set(free)
    now = dataclasses.replace(before, **free)
    assert all(getattr(now, name) != FIELDS[name].default for name in free)
    commandline.check_resume(now, 'mummi', path)


def test_resuming_the_folder_of_another_method_names_both(saved):
    path, before = saved
    with pytest.raises(UserError, match=r'a run of mummi\.py, not of cvrl\.py'):
        commandline.check_resume(before, 'cvrl', path)


def test_a_run_that_cannot_be_resumed_is_refused_before_tensorflow_is_imported(saved, script):
    path, before = saved
    words = '--logdir', before.logdir, '--no-natural'
    content = pathlib.Path(path).read_bytes()
    for method, more in ('dreamer', []), ('mummi', ['--deter', '7']):
        code, out, errors = script(method, *words, *more)
        assert (code, out, errors.count('\n')) == (2, '', 1) and before.logdir in errors
    assert script('mummi', *words, '--steps', '7000')[2] == 'imported tensorflow\n'
    assert pathlib.Path(path).read_bytes() == content
    assert os.listdir(before.logdir) == ['config.json']


@pytest.mark.parametrize('content', [
    b'', b'{"method": "mummi", "ta', b'\xff\xfe\x00', b'{}', b'[]', b'{"task": "dmc_a_b"}',
    b'{"method": null}', b'{"method": "mummi", "steps": "100"}',
    b'{"method": "mummi", "steps": true}', b'{"method": "mummi", "natural": 1}'])
def test_unreadable_saved_configuration_is_named(content, saved):
    path, before = saved
    pathlib.Path(path).write_bytes(content)
    with pytest.raises(UserError, match=r'config\.json is not a readable configuration'):
        commandline.check_resume(before, 'mummi', path)


def test_options_that_came_or_went_since_saving_are_forgiven(saved):
    path, before = saved
    values = json.loads(pathlib.Path(path).read_text())
    del values['envs']
    pathlib.Path(path).write_text(json.dumps(values | {'gone': 3}))
    assert commandline.load(path) == (before, 'mummi')


def test_saving_replaces_the_file_whole_or_not_at_all(saved, monkeypatch):
    path, before = saved
    content = pathlib.Path(path).read_bytes()

    def killed(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, 'replace', killed)
        commandline.save(dataclasses.replace(before, seed=3), 'mummi', path)
    assert pathlib.Path(path).read_bytes() == content
    commandline.save(dataclasses.replace(before, seed=3), 'mummi', path)
    assert commandline.load(path)[0].seed == 3
    assert os.listdir(before.logdir) == ['config.json']


# --- What makes another method of a method ---


def test_each_sensor_has_its_loss_and_its_weight():
    def found(function, **changes):
        return function(Config(**changes), SENSORS)
    assert found(variants.sensor_losses) == dict.fromkeys(SENSORS, 'contrast')
    assert found(variants.sensor_losses, sensor_loss='reconstruct') == dict.fromkeys(
        SENSORS, 'reconstruct')
    assert found(variants.sensor_losses, sensor_loss='touch=reconstruct, image=contrast') == (
        dict.fromkeys(SENSORS, 'contrast') | {'touch': 'reconstruct'})
    table = {name: row.bound_weight for name, row in SENSORS.items()}
    assert found(variants.bound_weights) == table and table['touch'] == 0.001
    assert found(variants.bound_weights, bound_weight='0.5') == dict.fromkeys(SENSORS, 0.5)
    assert found(variants.bound_weights, bound_weight='touch=0.1') == table | {'touch': 0.1}


@pytest.mark.parametrize('words, part', [
    (['--sensor_loss', 'guess'], '--sensor_loss takes contrast or reconstruct, or <sensor>='),
    (['--sensor_loss', 'image=guess'], "not 'image=guess'"),
    (['--sensor_loss', 'touch=contrast,touch=reconstruct'], 'each once'),
    (['--bound_weight', 'smell=1'], 'with the sensors image, depth, touch'),
    (['--bound_weight', 'touch=-1'], '--bound_weight takes a number from 0 to'),
    (['--bound_weight', 'touch=nan'], '--bound_weight takes a number from 0 to'),
    (['--sensors', 'image', '--bound_weight', 'touch=1'], 'touch, which is not among --sensors'),
    (['--sensor_loss', 'audio=reconstruct'], 'audio, which is not among --sensors all'),
    (['--bound_weight', 'touch=1', '--sensor_loss', 'reconstruct'], 'it has no bound'),
    (['--no-use_dreamer'], 'type --use_sac too')])
def test_choices_of_a_method_that_are_wrong_are_refused(words, part):
    with pytest.raises(UserError) as error:
        parse(*words)
    assert part in str(error.value) and '\n' not in str(error.value)


def test_reward_only_has_no_observation_model():
    with pytest.raises(UserError, match='type one of them'):
        commandline.parse(cvrl.METHOD, [
            '--logdir=unused', '--no-natural', '--reward_only', '--obs_model', 'generative'])


@pytest.mark.parametrize('method, words, name', [
    ('cvrl', [], 'cvrl'),
    ('cvrl', ['--use_sac'], 'cvrl, with SAC'),
    ('cvrl', ['--use_sac', '--no-use_dreamer'], 'cvrl, SAC alone'),
    ('cvrl', ['--obs_model', 'generative'], 'cvrl, generative'),
    ('cvrl', ['--reward_only', '--use_sac'], 'cvrl, reward only, with SAC'),
    ('cvrl', ['--no-refine_actions'], 'cvrl, no planning'),
    ('cvrl', ['--no-refine_actions', '--search_candidates', '5'], 'cvrl'),
    ('mummi', ['--no-refine_actions'], 'mummi, no planning'),
    ('dreamer', ['--refine_actions'], 'dreamer, planning'),
    ('dreamer', [], 'dreamer'),
    ('mummi', ['--bound_weight', 'touch=0.1'], 'mummi'),
    ('mummi', ['--density_ratio', 'bilinear'], 'mummi, bilinear'),
    ('mummi', ['--sensor_loss', 'image=reconstruct,touch=reconstruct'],
     'mummi, image and touch reconstructed'),
    ('mummi', ['--fusion', 'precision', '--prior_expert', '--sensor_loss', 'reconstruct'],
     'mummi, product of experts, prior expert, all reconstructed'),
    ('mummi', ['--sensor_loss', 'image=reconstruct,depth=reconstruct,touch=reconstruct'],
     'mummi, all reconstructed'),
    ('mummi', ['--sensors', 'image', '--sensor_loss', 'image=reconstruct', '--density_ratio',
               'bilinear'], 'mummi, all reconstructed')])
def test_an_ablation_is_called_what_it_is(method, words, name):
    settings_ = commandline.parse(METHODS[method], ['--logdir=unused', '--no-natural', *words])
    assert variants.name(method, settings_) == name


def test_planning_is_not_named_where_no_script_says_what_is_usual(tmp_path, monkeypatch):
    monkeypatch.setattr(variants, 'HERE', str(tmp_path))
    (tmp_path / 'broken.py').write_text('METHOD = Method(')
    variants.known.cache_clear()
    for planning in True, False:
        for method in 'elsewhere', 'broken':
            assert variants.name(method, config.Config(refine_actions=planning)) == method
    variants.known.cache_clear()


@pytest.mark.parametrize('words', [
    ('--corrupt', 'proprioception=noise:0.1'), ('--bound_weight', 'proprioception=0.1'),
    ('--sensor_loss', 'proprioception=reconstruct')])
def test_all_sensors_of_a_gym_task_are_whatever_its_observations_are(words):
    given = ('--logdir', 'unused', '--preset', 'debug', *words)
    assert parse('--task', 'gym_Pendulum-v1', *given).sensors == 'all'
    with pytest.raises(config.UserError, match='proprioception, which is not among --sensors all'):
        parse('--no-natural', *given)
    assert parse('--no-natural', '--sensors', 'image,proprioception', *given)


def test_a_test_with_another_drop_out_chance_names_the_option_for_it(tmp_path):
    commandline.save(Config(logdir=str(tmp_path), natural=False, miss_ratio=0.05), 'mummi',
                     str(tmp_path / 'config.json'))
    words = ['--logdir', str(tmp_path), '--test', '--miss_ratio']
    with pytest.raises(UserError, match='--test judges at --test_ratios'):
        commandline.parse(mummi.METHOD, [*words, '0.3'])
    with pytest.raises(UserError, match='no checkpoint'):  # as far as it should come
        commandline.parse(mummi.METHOD, [*words, '0.05'])


def test_a_single_sensor_is_not_withheld():
    words = ['--logdir=unused', '--no-natural', '--preset=cpu', '--sensors=image']
    for more in [], ['--withhold=0']:
        commandline.parse(mummi.METHOD, [*words, *more])
    with pytest.raises(UserError, match='withhold does nothing with a single sensor'):
        commandline.parse(mummi.METHOD, [*words, '--withhold=0.5'])
    # Two at a chance of 1 leave the third.
    commandline.parse(mummi.METHOD, [*words[:-1], '--withhold=image=1,depth=1'])


def test_options_that_do_nothing_as_they_are_by_default_are_no_mistake():
    words = ['--logdir', 'unused', '--no-natural', '--no-refine_actions']
    for method, plan in ('cvrl', 'all'), ('mummi', 'first'):
        found = commandline.parse(METHODS[method], [*words, '--refine_plan', plan])
        assert found.refine_plan == plan
    with pytest.raises(UserError, match='refine_plan does nothing'):
        commandline.parse(cvrl.METHOD, [*words, '--refine_plan', 'first'])


def test_options_of_the_model_may_do_nothing_as_a_run_is_resumed_by_its_own():
    words = ['--logdir=unused', '--no-natural', '--sensor_loss=reconstruct',
             '--density_ratio=bilinear', '--probe_frames=0']
    assert commandline.parse(mummi.METHOD, words).density_ratio == 'bilinear'
    for name in checks.unused(Config(
            kl_balance=1.0, use_dreamer=False, sensor_loss='reconstruct'), FIELDS):
        assert not FIELDS[name].metadata['model'], name
