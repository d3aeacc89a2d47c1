"""What came out of claim.py: the numbers, the sentences and the figure. Nothing here imports
TensorFlow.

Positions and errors are in metres, errors the root of the mean square over both axes. N entries
of the judged walks, the first half of which probes are fitted to and the second read by them.
"""

import itertools
import math
import os

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator

import drawing
import files
from palette import BLACK, BLUE, GREY, ORANGE, VERMILION

SENSORS = ('camera', 'range')
NAMES = {
    'mummi': 'MuMMI', 'product': 'product of experts, reconstructing',
    'reconstruction': "MuMMI's experts, reconstructing"}
HEARD = {'camera': 'camera', 'range': 'range finder'}
COLOURS = {'camera': ORANGE, 'range': BLUE}
COMPARED = 256  # entries whose codes are compared one with another
BINS = 8  # of stated deviations, with as many statements in each
# Up to where a sentence says yes: distance of the two codes, factor between stated and true
# errors, error of a foreign probe over that of the own.
CLOSE, CALIBRATED, EQUAL = 0.25, 1.5, 1.5
BETTER = 0.8  # of the rivals' value, or less: clearly better than them
# What it costs a probe to follow single directions of a code, in shares of the code's variance.
RIDGE = 0.1


class Probe:
    """The position as a linear function of codes [N, E], by ridge regression."""

    def __init__(self, codes, positions):
        self.middle = codes.mean(0)
        # Of what varies: where all codes lie beside the origin, the penalty is not the larger.
        self.scale = max(float((codes - self.middle).std()), 1e-12)
        inputs = self._inputs(codes)
        penalty = RIDGE * len(codes) * np.diag([*np.ones(codes.shape[1]), 0])
        self.weights = np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ positions)

    def _inputs(self, codes):
        scaled = (np.float64(codes) - self.middle) / self.scale
        return np.concatenate([scaled, np.ones((len(codes), 1))], 1)

    def __call__(self, codes):
        """Positions [N, 2]."""
        return self._inputs(codes) @ self.weights

    def deviation(self, deviations):
        """The deviations [N, 2] of positions read from codes with these deviations [N, E], which
        are independent of each other."""
        return np.sqrt(np.square(deviations) @ np.square(self.weights[:-1] / self.scale))


def size(values):
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def judged(answers, distance, retrieval):
    """What `claim.asked` gave and the agreement of the two codes -> dict of numbers, and of what
    the figure draws: 'plane', the two codes [N, 2 sensors, 2] on their main plane;
    'calibration', sensor -> (stated, true) errors of each bin [2, BINS]."""
    position, code = answers['position'], answers['code']
    half = len(position) // 2
    numbers = {'distance': distance, 'retrieval': retrieval,
               'chance': size(position[half:] - position[:half].mean(0))}
    for kind in ('code', 'latent'):
        probes = {s: Probe(x[:half], position[:half]) for s, x in answers[kind].items()}
        for fitted, read in itertools.product(SENSORS, SENSORS):
            numbers[f'{kind}_{fitted}_{read}'] = size(
                probes[fitted](answers[kind][read][half:]) - position[half:])
    # An expert is taken at its word where it stands in for the fused code, which is what the
    # dynamics read: it says where the point is, and how far off that may be.
    fused, calibration = Probe(answers['fused'][:half], position[:half]), {}
    numbers['fused'] = size(fused(answers['fused'][half:]) - position[half:])
    for sensor in SENSORS:
        error = fused(code[sensor][half:]) - position[half:]
        stated = fused.deviation(answers['deviation'][sensor][half:])
        numbers |= {
            f'stated_{sensor}': size(stated), f'true_{sensor}': size(error),
            f'ratio_{sensor}': size(error / stated)}
        bins = np.array_split(np.argsort(stated, axis=None), BINS)
        calibration[sensor] = np.array(
            [[size(x.ravel()[rows]) for rows in bins] for x in (stated, error)])
    return {'numbers': numbers, 'calibration': calibration, 'plane': main_plane(code)}


def main_plane(code):
    """The codes of both sensors [N, 2, 2] in the plane in which all of them vary most."""
    both = np.stack([np.float64(code[sensor]) for sensor in SENSORS], 1)
    centred = both - both.mean((0, 1))
    _, _, directions = np.linalg.svd(centred.reshape(-1, both.shape[-1]), full_matrices=False)
    return centred @ directions[:2].T


def summed(numbers):
    """(distance of the codes, factor between stated and true errors of the worse expert, errors of
    own and of foreign probes, over the two sensors) of a method's numbers."""
    worse = max(abs(math.log(numbers[f'ratio_{sensor}'])) for sensor in SENSORS)
    own = size([numbers[f'code_{s}_{s}'] for s in SENSORS])
    foreign = size([numbers['code_camera_range'], numbers['code_range_camera']])
    return numbers['distance'], math.exp(worse), own, foreign


def sentences(found):
    """What came out of each of the paper's three points, one sentence each. found: method ->
    what `judged` gives, MuMMI first, then its rivals."""
    values = {method: summed(result['numbers']) for method, result in found.items()}
    mummi, rivals = values['mummi'], [v for method, v in values.items() if method != 'mummi']
    them = 'the rival' if len(rivals) == 1 else 'the rivals'

    def answer(column, most):
        """Whether MuMMI is clearly better than the rivals in a column, and good enough."""
        good = mummi[column] < most
        if all(mummi[column] <= BETTER * rival[column] for rival in rivals):
            return 'yes' if good else f'better than {them}, but only in part'
        if good and all(mummi[column] <= rival[column] for rival in rivals):
            return f'yes, but hardly better than {them}'
        if all(mummi[column] < rival[column] for rival in rivals):
            return f'hardly better than {them}, and only in part'
        return f'NO, not better than {them}, otherwise than the paper says'

    def listed(write):
        return '; '.join(f'{NAMES[method]} {write(*v)}' for method, v in values.items())

    return [
        f"One space for both sensors: {answer(0, CLOSE)} (distance of a step's two codes, where "
        f"that of two steps is 1: {listed(lambda distance, *_: f'{distance:.2f}')}).",
        f'Experts alone are calibrated: {answer(1, CALIBRATED)} (factor between stated and true '
        f"errors, of the worse expert: {listed(lambda _, factor, *__: f'{factor:.1f}')}).",
        f'One sensor stands in for the other: {answer(3, EQUAL * mummi[2])} (error in metres by '
        "its own probe, and by the other sensor's: "
        f"{listed(lambda *v: f'{v[2]:.2f} and {v[3]:.2f}')}).",
    ]


ROWS = {
    'distance': "distance of a step's two codes (other steps': 1)",
    'retrieval': f"the camera's code finds the range finder's among {COMPARED} steps",
    'code_camera_camera': "code: camera, by the camera's probe, m",
    'code_camera_range': "code: range finder, by the camera's probe, m",
    'code_range_range': "code: range finder, by the range finder's probe, m",
    'code_range_camera': "code: camera, by the range finder's probe, m",
    'latent_camera_camera': "latent: camera alone, by its probe, m",
    'latent_camera_range': "latent: range finder alone, by the camera's probe, m",
    'latent_range_range': "latent: range finder alone, by its probe, m",
    'latent_range_camera': "latent: camera alone, by the range finder's probe, m",
    'fused': 'fused code, m',
    'chance': 'without looking, m',
    'stated_camera': 'camera in place of the fused code: stated error, m',
    'true_camera': 'camera in place of the fused code: true error, m',
    'ratio_camera': 'camera: true errors over stated (1: calibrated)',
    'stated_range': 'range finder in place of the fused code: stated error, m',
    'true_range': 'range finder in place of the fused code: true error, m',
    'ratio_range': 'range finder: true errors over stated (1: calibrated)',
}


def markdown(table):
    """The lines of a page for `table`, a data frame of ROWS by methods."""
    lines = ['| | ' + ' | '.join(NAMES[method] for method in table) + ' |',
             '| --- |' + ' --- |' * len(table.columns)]
    lines += [f'| {ROWS[row]} | ' + ' | '.join(f'{x:.2f}' for x in table.loc[row]) + ' |'
              for row in ROWS]
    return '\n'.join(lines) + '\n'


def write(found, outdir, made):
    """numbers.csv, numbers.md, claim.png and claim.pdf in `outdir`; prints the sentences. made: how
    it was made, for the caption."""
    table = pd.DataFrame({m: result['numbers'] for m, result in found.items()}).loc[list(ROWS)]
    # Once, so that both files round the same numbers.
    table = table.map(lambda number: float(f'{number:.4g}'))
    said = sentences(found)
    for name, text in (
            ('numbers.csv', table.to_csv(index_label='quantity', lineterminator='\n')),
            ('numbers.md', markdown(table) + '\n' + ''.join(f'* {line}\n' for line in said))):
        with files.writing(os.path.join(outdir, name)) as file:
            file.write(text.encode())
    drawing.save(draw(found), ' '.join(said) + f' [{made}]', outdir, 'claim')
    print('\n'.join([*said, f'figure and numbers are in {outdir}']))


def draw(found):
    """The figure: a row for each method, with codes, calibration and probes."""
    titles = [f'{NAMES[method]}:\n{what}' for method in found for what in (
        'codes of the two sensors', 'what an expert says of its error',
        'the position read by a probe')]
    figure, axes = drawing.panels(titles, columns=3)
    values = [value for result in found.values() for name, value in result['numbers'].items()
              if name.startswith('code_')]
    chance = next(iter(found.values()))['numbers']['chance']
    highest = 1.15 * min(max(chance, *values), 2 * chance)  # of the bars; what is above is cut off
    for row, result in enumerate(found.values()):
        codes, calibration, probes = axes[3 * row:3 * row + 3]
        draw_codes(codes, result['plane'])
        draw_calibration(calibration, result['calibration'])
        draw_probes(probes, result['numbers'], highest)
        probes.set_ylim(0, highest)
    spans = [result['calibration'][s] for result in found.values() for s in SENSORS]
    low, high = 0.8 * min(map(np.min, spans)), 1.25 * max(map(np.max, spans))
    for calibration in axes[1::3]:
        calibration.set(xlim=(low, high), ylim=(low, high))
        calibration.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=1)
    return figure


def draw_codes(axes, plane, linked=48):
    """Codes of both sensors; those of one step are linked, for some."""
    shown = np.linspace(0, len(plane) - 1, 2 * COMPARED).astype(int)
    for number, sensor in enumerate(SENSORS):
        axes.plot(*plane[shown, number].T, '.', markersize=3, color=COLOURS[sensor], alpha=0.6,
                  label=HEARD[sensor])
    for entry in shown[::max(1, len(shown) // linked)]:
        axes.plot(*plane[entry].T, color=GREY, linewidth=0.7, alpha=0.8, zorder=1,
                  label='the same step' if entry == shown[0] else None)
    axes.set(xlabel='first direction of the codes', ylabel='second direction')
    axes.set_aspect('equal', 'datalim')
    drawing.legend(axes)


def draw_calibration(axes, calibration):
    for sensor, (stated, true) in calibration.items():
        axes.loglog(stated, true, 'o-', markersize=4, color=COLOURS[sensor],
                    label=f'{HEARD[sensor]} alone')
    axes.set(xlabel='error that it states, metres', ylabel='true error, metres')
    axes.plot([], [], color=GREY, linewidth=0.8, label='calibrated (below: too modest)')
    axes.set_aspect('equal')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f'{value:g}')
        axis.set_minor_locator(NullLocator())
    drawing.legend(axes)


def draw_probes(axes, numbers, highest):
    """Bars, each with its number, also where it is higher than `highest`."""
    for place, read in enumerate(SENSORS):
        for side, own in ((-0.2, True), (0.2, False)):
            fitted = read if own else SENSORS[1 - place]
            value = numbers[f'code_{fitted}_{read}']
            axes.bar(place + side, value, 0.38, color=GREY if own else VERMILION, label=(
                'its own probe' if own else "the other sensor's probe") if not place else None)
            axes.annotate(f'{value:.2f}', (place + side, min(value, 0.94 * highest)),
                          ha='center', va='bottom',
                          fontsize=8)
    axes.axhline(numbers['chance'], color=BLACK, linewidth=0.8, linestyle=':',
                 label='without looking')
    axes.set_xticks(range(2), [HEARD[sensor] for sensor in SENSORS])
    axes.set(xlabel='the sensor that is read', ylabel='error, metres')
    drawing.legend(axes)
