"""The toy world, the rival, what is measured of both, and the sentences that say it."""

import dataclasses
import pathlib
import re

import helpers
import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import claim
import claim_figure
import config
from config import flag
from environments import plane

ROOT = pathlib.Path(claim.__file__).parent
KEPT = ROOT / 'results' / 'claim'
WIDTH = 12  # of the codes that the tests make up


@pytest.fixture
def sensing():
    with claim.sensing():
        yield


@pytest.fixture
def small(monkeypatch, eager):
    """The smallest models and worlds that still have all parts; every part of them learns, as the
    divergence has no free nats."""
    monkeypatch.setattr(claim, 'SETTINGS', dataclasses.replace(
        claim.SETTINGS, batch=2, length=4, deter=8, stoch=4, hidden=8, conv_depth=2,
        vector_units=8, decoder_units=8, expert_width=8, units=8, free_nats=0.0, model_rate=1e-2))
    monkeypatch.setattr(claim, 'WALKS', 4)
    monkeypatch.setattr(claim, 'TESTS', 8)
    monkeypatch.setattr(claim_figure, 'COMPARED', 16)


# --- The world ---------------------------------------------------------------------------------


def test_sensors_of_the_room_show_where_the_point_is(sensing):
    data = claim.walks(30, 16, 0.0, 3)
    position = data['position']
    assert np.abs(position).max() <= plane.HALF < np.abs(position).max() + 0.2
    error = data['range'] - position
    assert error.std() == pytest.approx(plane.RANGE_NOISE, rel=0.1) and abs(error.mean()) < 0.02
    # The brightest column and row, of the picture without most of its noise.
    middles = plane.VIEW * ((np.arange(64) + 0.5) / 32 - 1)
    picture = data['camera'][..., 0].astype(float)
    across, down = (middles[picture.mean(axis).argmax(-1)] for axis in (-2, -1))
    np.testing.assert_allclose(np.stack([across, down], -1), position, atol=0.5)
    moved = np.clip(position[:, :-1] + plane.STRIDE * data['action'][:, 1:],
                    -plane.HALF, plane.HALF)
    np.testing.assert_allclose(position[:, 1:], moved, atol=1e-5)
    assert not data['action'][:, 0].any() and not data['reward'].any()


def test_walks_are_those_of_their_seed_and_sensors_drop_out_one_by_one(sensing):
    one, same, other = (claim.walks(40, 16, 0.1, seed) for seed in (5, 5, 6))
    for key in one:
        np.testing.assert_array_equal(one[key], same[key])
    for key in ('camera', 'range', 'action', flag('camera')):
        assert not np.array_equal(one[key], other[key])
    gone = {s: one[flag(s)][..., 0] == 0 for s in plane.SHAPES}
    for sensor, missing in gone.items():
        assert 0.2 < missing.mean() < 0.6
        assert not one[sensor][missing].any()
    assert (gone['camera'] & ~gone['range']).any() and (gone['range'] & ~gone['camera']).any()


# --- The rival, and the training of all ----------------------------------------------------------


@pytest.mark.parametrize('method', ['product', 'reconstruction'])
def test_rival_fuses_by_its_weights_and_leaves_out_what_is_missing(method, small, sensing):
    world = claim.trained(method, claim.walks(4, 4, 0.0, 1), 1, 0)
    helpers.shake(world)
    representation, data = world.representation, claim.walks(4, 4, 0.0, 2)
    observation = helpers.tensors({k: v for k, v in data.items() if k != 'position'})
    present = np.ones((2, 4, 4, 1), np.float32)
    present[0, 0], present[1, 1], present[:, 2] = 0, 0, 0
    for sensor, flags in zip(('camera', 'range'), present):
        observation[flag(sensor)] = tf.constant(flags)
    total, product = 0, 0
    for sensor, flags in zip(('camera', 'range'), present):
        raw = helpers.perceptron(
            representation.experts[sensor], representation.encoders[sensor](observation[sensor]),
            helpers.relu)
        mean, deviation = np.split(raw, 2, -1)
        deviation = helpers.softplus(deviation) + 0.1
        weight = flags / (deviation ** 2 if method == 'product' else deviation)
        total, product = total + weight, product + weight * mean
    wanted = product / (total + (1.0 if method == 'product' else 0.01))
    embedded = representation.embed(observation)
    helpers.close(embedded['joint'], wanted)
    assert not embedded['joint'].numpy()[2].any()  # where both are missing
    # A hidden sensor counts as a missing one.
    hidden = representation.embed(observation, {'camera': tf.ones([4, 1, 1], bool)})
    observation[flag('camera')] *= 0
    helpers.close(hidden['joint'], representation.embed(observation)['joint'])


@pytest.mark.parametrize('method', ['mummi', 'product'])
def test_training_moves_every_weight_of_a_method_and_lowers_its_loss(method, small, sensing):
    data = claim.walks(4, 4, 0.05, 1)
    before, world = (claim.trained(method, data, updates, 3) for updates in (1, 10))
    assert not any(helpers.unchanged(
        helpers.values(before.trainable_variables), world.trainable_variables))
    batch = helpers.tensors({key: value for key, value in data.items() if key != 'position'})
    noise = tf.constant(helpers.normals(4, 4, claim.SETTINGS.stoch))
    losses = [float(each.loss(batch, noise)[0]) for each in (before, world)]
    assert losses[1] < losses[0] - 0.2


def test_a_sensor_is_asked_alone(small, sensing):
    data = claim.walks(4, 4, 0.0, 1)
    world = claim.trained('mummi', data, 1, 0)
    helpers.shake(world)
    answers = claim.asked(world, data)
    changed = claim.asked(world, data | {'range': data['range'] + 1})
    assert answers['fused'].shape == (16, 8) and answers['latent']['camera'].shape == (16, 12)
    for part in ('code', 'deviation', 'latent'):
        helpers.close(changed[part]['camera'], answers[part]['camera'])
        assert not np.allclose(changed[part]['range'], answers[part]['range'])
    assert not np.allclose(changed['fused'], answers['fused'])


# --- What is measured ----------------------------------------------------------------------------


def answers_of(turned=False, stated=1.0, error=0.1, count=2000):
    """What sensors say whose codes are linear in the position, with errors of `error` in each
    value of a code. turned: the range finder's code is a linear function of its own. stated:
    the stated deviation, of the true one."""
    random = np.random.default_rng(0)
    position = random.uniform(-3, 3, (count, 2))
    maps = {s: random.normal(size=(2, WIDTH)) for s in ('camera', 'range')}
    right = position @ maps['camera']
    code = {'camera': right, 'range': position @ maps['range'] + 4 if turned else right}
    code = {s: x + error * random.normal(size=x.shape) for s, x in code.items()}
    deviation = {s: np.full((count, WIDTH), stated * error) for s in code}
    return {'position': position, 'code': code, 'deviation': deviation, 'latent': code,
            'fused': right + 1e-6}


@pytest.fixture
def no_ridge(monkeypatch):
    monkeypatch.setattr(claim_figure, 'RIDGE', 1e-6)


def test_codes_in_one_space_are_read_by_a_foreign_probe(no_ridge):
    for turned in (False, True):
        answers = answers_of(turned)
        distance, retrieval = claim.agreement(
            {s: np.float32(x) for s, x in answers['code'].items()})
        result = claim_figure.judged(answers, distance, retrieval)
        numbers = result['numbers']
        own = max(numbers['code_camera_camera'], numbers['code_range_range'])
        foreign = min(numbers['code_camera_range'], numbers['code_range_camera'])
        assert own < 0.1 and (foreign > 1.0 if turned else foreign < 1.2 * own)
        assert distance > 0.5 if turned else distance < 0.01
        assert retrieval < 0.1 if turned else retrieval > 0.5
        # In the plane of the figure the links are as long as the codes are apart.
        links = np.linalg.norm(np.diff(result['plane'], axis=1), axis=-1).mean()
        assert links > 2 if turned else links < 0.5
    assert numbers['chance'] == pytest.approx(3 / 3 ** 0.5, rel=0.05)


@pytest.mark.parametrize('stated', [0.5, 1.0, 3.0])
def test_an_expert_is_calibrated_where_its_errors_are_what_it_states(stated, no_ridge):
    result = claim_figure.judged(answers_of(stated=stated), 0.0, 1.0)
    for sensor in ('camera', 'range'):
        assert result['numbers'][f'ratio_{sensor}'] == pytest.approx(1 / stated, rel=0.1)
        said, true = result['calibration'][sensor]
        assert said.shape == (claim_figure.BINS,) and np.all(np.diff(said) > -1e-12)
        np.testing.assert_allclose(true / said, 1 / stated, rtol=0.25)


def test_where_the_codes_lie_changes_nothing_of_what_a_probe_reads():
    """With the ridge as it is."""
    random = np.random.default_rng(0)
    positions = random.uniform(0, 6, (400, 2))
    codes = positions @ random.normal(size=(2, 8)) + 0.1 * random.normal(size=(400, 8))
    beside = codes + 30 * random.normal(size=8)
    here, there = (claim_figure.Probe(x[:200], positions[:200]) for x in (codes, beside))
    np.testing.assert_allclose(here(codes[200:]), there(beside[200:]), rtol=1e-6)
    np.testing.assert_allclose(
        here.deviation(np.full((1, 8), 0.1)), there.deviation(np.full((1, 8), 0.1)), rtol=1e-6)


def found_of(mummi, product):
    return {name: claim_figure.judged(answers_of(**options), distance, 1.0) for (
        name, (options, distance)) in {'mummi': mummi, 'product': product}.items()}


def test_sentences_say_what_came_out_also_otherwise(no_ridge):
    good, bad = (dict(turned=False), 0.1), (dict(turned=True, stated=0.2), 0.9)
    assert all(': yes (' in line for line in claim_figure.sentences(found_of(good, bad)))
    for pair in ((bad, good), (bad, bad)):
        assert all(': NO, ' in line for line in claim_figure.sentences(found_of(*pair)))
    assert all(': yes, but hardly better than the rival (' in line
               for line in claim_figure.sentences(found_of(good, good)))
    worse = claim_figure.sentences(found_of((dict(turned=False), 0.23), (dict(turned=False), 0.03)))
    assert ': NO, ' in worse[0]
    part = dict(turned=False), 0.4
    near = claim_figure.sentences(found_of(part, (dict(turned=False), 0.45)))[0]
    assert ': hardly better than the rival, and only in part (' in near
    first = claim_figure.sentences(found_of(part, bad))[0]
    assert 'better than the rival, but only in part' in first
    assert 'MuMMI 0.40' in first and 'reconstructing 0.90' in first


def test_figure_has_a_row_for_each_method(no_ridge):
    found = found_of((dict(), 0.1), (dict(turned=True), 0.9))
    figure = claim_figure.draw(found)
    assert isinstance(figure, matplotlib.figure.Figure) and len(figure.axes) == 6
    bars = [[bar.get_height() for bar in axes.patches] for axes in figure.axes[2::3]]
    for heights, result in zip(bars, found.values()):
        wanted = [result['numbers'][f'code_{pair}'] for pair in (
            'camera_camera', 'range_camera', 'range_range', 'camera_range')]
        np.testing.assert_allclose(sorted(heights), sorted(wanted))


def test_both_files_of_numbers_round_alike(no_ridge, tmp_path, monkeypatch):
    found = found_of((dict(), 0.1), (dict(turned=True), 0.9))
    found['mummi']['numbers']['stated_camera'] = 1.32504  # 1.325 with four digits, 1.33 with three
    monkeypatch.setattr(claim_figure.drawing, 'save', lambda *_: None)
    claim_figure.write(found, str(tmp_path), '')
    table = pd.read_csv(tmp_path / 'numbers.csv', index_col=0)
    assert table.loc['stated_camera', 'mummi'] == 1.325
    assert claim_figure.markdown(table) in (tmp_path / 'numbers.md').read_text(encoding='utf-8')


# --- The command ----------------------------------------------------------------------------------


def test_command_trains_all_and_writes_figure_and_numbers(small, tmp_path, capsys):
    rows = dict(config.SENSORS)
    claim.main(claim.arguments([
        '--outdir', str(tmp_path / 'new'), '--updates', '2', '--rivals', 'product']))
    assert helpers.names(tmp_path / 'new') == [
        'claim.pdf', 'claim.png', 'numbers.csv', 'numbers.md']
    numbers = pd.read_csv(tmp_path / 'new' / 'numbers.csv', index_col=0)
    assert list(numbers) == ['mummi', 'product'] and list(numbers.index) == list(claim_figure.ROWS)
    assert np.isfinite(numbers.values).all()
    printed = capsys.readouterr().out
    page = (tmp_path / 'new' / 'numbers.md').read_text(encoding='utf-8')
    for line in page.partition('* ')[2].splitlines():
        assert line.removeprefix('* ') in printed
    assert rows == config.SENSORS  # the toy's are gone from the table


def test_no_walk_of_the_test_is_one_of_training(small, tmp_path, monkeypatch):
    """Whatever the seed; what is trained on has drop-outs, and the test has none."""
    drawn = []
    monkeypatch.setattr(claim, 'walks', lambda count, length, missing, seed, walks=claim.walks: (
        drawn.append((missing, seed)), walks(count, length, missing, seed))[1])
    for seed in '0', '1', '2':
        claim.main(claim.arguments(
            ['--outdir', str(tmp_path / seed), '--updates', '1', '--seed', seed, '--rivals',
             'product']))
    assert [missing for missing, _ in drawn] == [claim.MISS_RATIO, 0] * 3
    assert len({seed for _, seed in drawn}) == 6


@pytest.mark.parametrize('words, told', [
    (['--rivals', 'dreamer'], "product or reconstruction, or both as product,reconstruction, not "
                              "'dreamer'"),
    (['--updates', '0'], '--updates'),
    (['--seed', 'x'], '--seed'),
    (['--outdir', 'FILE'], 'cannot write in the folder'),
])
def test_mistakes_are_one_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'FILE').write_text('kept')
    with pytest.raises(SystemExit) as exit:
        claim.arguments(words)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and told in error and error.count('\n') == 1
    assert (tmp_path / 'FILE').read_text() == 'kept'
    assert helpers.names(tmp_path) == ['FILE']


# --- The page ------------------------------------------------------------------------------------


def test_page_of_the_claim_has_the_numbers_that_lie_beside_it():
    page = (KEPT / 'README.md').read_text(encoding='utf-8')
    table = pd.read_csv(KEPT / 'figures' / 'numbers.csv', index_col=0)
    assert claim_figure.markdown(table) in page
    kept = (KEPT / 'figures' / 'numbers.md').read_text(encoding='utf-8')
    assert claim_figure.markdown(table) in kept
    assert '](figures/claim.png)' in page and (KEPT / 'figures' / 'claim.png').exists()
    assert re.search(r'^    python claim\.py ', page, re.MULTILINE)
    assert '](claim/README.md)' in (ROOT / 'results' / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('error, code, words', [
    (OSError(28, 'No space left on device', 'claim.png'), 2, 'error: claim.png: No space left'),
    (KeyboardInterrupt(), 130, 'interrupted')])
def test_what_ends_it_early_is_one_line(error, code, words, monkeypatch, capsys):
    def walks(*_):
        raise error
    monkeypatch.setattr(claim, 'walks', walks)
    with pytest.raises(SystemExit) as ended:
        claim.main(claim.arguments([]))
    assert ended.value.code == code and words in capsys.readouterr().err
