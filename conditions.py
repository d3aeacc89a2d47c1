"""Figures of `--test`: returns under missing sensors and under faults, from results.csv."""

import math

import numpy as np

from drawing import legend, panels, return_axis, save, shown, styles
from logs import everyone, having, label, methods_of
from summaries import evaluations, judged_under, of_fewer

FEWER = '; {}: not all seeds were judged there'
RATIO_AXIS = 'missing ratio (chance of a drop-out at each decision)'


def draw_missing_ratio(groups, outdir):
    """`missing_ratio`: return against the missing ratio of the evaluation."""
    style = styles(methods_of(groups))
    groups = having(groups, lambda run: (run.results['condition'] == 'ratio').any())
    if not groups:
        print('no results.csv with missing ratios: figure missing_ratio left out')
        return None
    ratios = np.unique(evaluations(everyone(groups), 'ratio').index)
    gap = np.diff(ratios).min() if len(ratios) > 1 else 0.1
    figure, axes = panels(list(groups))
    fewer = False
    for one, group in zip(axes, groups.values()):
        drawn = []
        for index, (method, runs) in enumerate(group.items()):
            rows = evaluations(runs, 'ratio')
            drawn += [*rows['mean']]
            aside = (index - (len(group) - 1) / 2) * min(0.08, 0.6 / len(group)) * gap
            one.errorbar(
                rows.index + aside, rows['mean'], rows['deviation'].fillna(0), capsize=2.5,
                color=style[method][0], marker=style[method][1], markersize=5,
                linewidth=1.6, elinewidth=1, label=shown(label(method, runs)))
            few = of_fewer(rows, runs).to_numpy()
            one.plot((rows.index + aside)[few], rows['mean'][few], style[method][1], markersize=5,
                     markerfacecolor='white', markeredgecolor=style[method][0])
            fewer |= few.any()
        one.set_xlabel(RATIO_AXIS)
        one.set_xlim(ratios[0] - gap / 3, ratios[-1] + gap / 3)
        return_axis(one, drawn)
        legend(one)
    return save(
        figure, 'Evaluation under missing sensors: mean over seeds; bars: standard deviation '
        'over all episodes; methods set apart' + FEWER.format('hollow') * bool(fewer), outdir,
        'missing_ratio')


def draw_single_sensor(groups, outdir):
    """`single_sensor`: bars with all sensors, without each sensor and with only each sensor."""
    drawn = draw_conditions(
        groups, outdir, 'single_sensor', ('without', 'only'),
        'Evaluation without or with only one sensor')
    if not drawn:
        print('no results.csv with single sensors: figure single_sensor left out')
    return drawn


def draw_conditions(groups, outdir, name, conditions, caption):
    """The figure `name`: bars with all sensors and under each of `conditions`. Returns its
    name, or None where there is nothing to draw."""
    style = styles(methods_of(groups))
    groups = having(groups, lambda run: run.results['condition'].isin(conditions).any())
    if not groups:
        return None
    columns = [('ratio', 0.0)] + [
        one for one in judged_under(everyone(groups)) if one[0] in conditions]
    figure, axes = panels(list(groups), 1, width=max(5, 2 + len(columns)), height=3.6)
    fewer = False
    for one, group in zip(axes, groups.values()):
        broad, drawn = 0.8 / len(group), []
        for index, (method, members) in enumerate(group.items()):
            rows = {part: evaluations(members, part) for part in ('ratio', *conditions)}
            places = np.arange(len(columns)) + (index - (len(group) - 1) / 2) * broad
            values, spread = (np.array([rows[part][name].get(key, math.nan)
                                        for part, key in columns])
                              for name in ('mean', 'deviation'))
            drawn += [*values]
            bars = one.bar(places, values, broad * 0.94, color=style[method][0],
                           label=shown(label(method, members)))
            few = {part: of_fewer(rows[part], members) for part in rows}
            for bar, (part, key) in zip(bars, columns):
                if few[part].get(key, False):
                    bar.set_alpha(0.4)
                    fewer = True
            one.errorbar(places, values, np.nan_to_num(spread), fmt='none', ecolor='#303030',
                         elinewidth=1, capsize=2.5)
            for place in places[np.isnan(values)]:
                one.text(place, 0, ' not run', rotation=90, ha='center', va='bottom', fontsize=7,
                         color=style[method][0])
        one.grid(False, axis='x')
        one.set_xticks(range(len(columns)), ['all\nsensors'] + [
            '\n'.join([part] * (part != 'corrupt') + sensor.replace('=', '\n').split('+'))
            for part, sensor in columns[1:]])
        return_axis(one, drawn)
        legend(one, drop=18 + 9 * max(text.get_text().count('\n') + 1
                                      for text in one.get_xticklabels()))
    return save(
        figure, f'{caption}: mean over seeds; bars: standard deviation over all episodes'
        + FEWER.format('pale') * fewer, outdir, name)
