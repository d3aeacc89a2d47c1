"""The figure of the method in README.md: python figures/method.py writes figures/method.png."""

import itertools
import pathlib

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

# Okabe and Ito's colours, which the colour-blind can tell apart; the methods' as in drawing.py.
COLOURS = ('#56B4E9', '#CC79A7', '#D55E00')  # image, depth, touch
GREY, INK, MISSING = '#F2F2F2', '#202020', '#D8D8D8'
ARROW = dict(color=INK, arrowstyle='-|>', mutation_scale=11, shrinkA=0, shrinkB=0)
figure = Figure((13, 10.6))
axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 130), ylim=(0, 106))
axes.axis('off')


def text(x, y, words, size=10, ha='center', color=INK, **style):
    axes.text(x, y, words, fontsize=size, ha=ha, va='center', color=color, **style)


def box(x, y, width, height, words='', fill='white', edge=INK, size=10, line=1.0, **style):
    """A rounded box with its lower left corner at x, y."""
    axes.add_patch(FancyBboxPatch(
        (x + 0.6, y + 0.6), width - 1.2, height - 1.2, boxstyle='round,pad=0.6', facecolor=fill,
        edgecolor=edge, linewidth=line))
    text(x + width / 2, y + height / 2, words, size, **style)


def arrow(begin, end, **style):
    axes.add_patch(FancyArrowPatch(begin, end, **ARROW | style))


def scores(x, y, colour, missing=()):
    """A matrix of scores: own pairs filled, others pale, what is missing left out."""
    for i, j in itertools.product(range(5), repeat=2):
        gone = i in missing or j in missing
        axes.add_patch(Rectangle(
            (x + 1.7 * j, y + 1.7 * (4 - i)), 1.7, 1.7, linewidth=0.6, edgecolor='#B0B0B0',
            facecolor='white' if gone else colour, alpha=1 if gone or i == j else 0.22))


# Sensors and encoders, shared.
for low, height in ((86, 19), (1, 35.5)):
    box(1, low, 128, height, fill=GREY, edge=GREY)
    text(3, low + height - 2.6, 'shared', 11, 'left', style='italic')
for index, name in enumerate(('image  64, 64, 3', 'depth  64, 64, 1', 'touch  n values')):
    left, fill, ink = 24 + 29 * index, *(('white', INK) if index < 2 else (MISSING, 'white'))
    box(left, 96.5, 24, 7, '', fill, COLOURS[index], line=2)
    text(left + 9.6, 100, name)
    box(left + 18.6, 97.7, 4.6, 4.6, f'f={index < 2:d}', fill if index < 2 else INK, color=ink)
    arrow((left + 12, 96.5), (left + 12, 93))
    box(left, 87, 24, 6, 'convolutions' if index < 2 else 'dense layers')
text(22, 100, 'sensors and\npresence flags', ha='right')
text(22, 90, 'encoders', ha='right')
text(108, 100, 'here touch is missing:\nzeros, and its flag is 0', 9.5, ha='left')

# The representation of each method.
for left, name, colour in (
        (1, 'Dreamer', '#009E73'), (44.5, 'CVRL', '#E69F00'), (88, 'MuMMI', '#0072B2')):
    box(left, 41, 41, 41, fill='white', edge=colour, line=2.6)
    text(left + 20.5, 79.4, name, 14, weight='bold', color=colour)
    arrow((left + 20.5, 86), (left + 20.5, 82), linewidth=1.6)
    axes.plot((left + 2, left + 39), (60.5, 60.5), color=colour, linewidth=0.8, linestyle=':')
    text(left + 2.2, 76.2, 'embedding', 9.5, 'left', style='italic')
    text(left + 2.2, 58.4, 'loss', 9.5, 'left', style='italic')
    arrow((left + 12, 41), (left + 12, 36.6), linewidth=1.6)
    text(left + 13, 38.8, '$e_t$', 12, ha='left')
    arrow((left + 29, 36.6), (left + 29, 41), linewidth=1.6, linestyle=(0, (4, 2)))
    text(left + 30, 38.8, 'features $s_t$', 10.5, ha='left')
    for index, colour in enumerate(COLOURS if left < 88 else ()):
        box(left + 6.5 + 9.4 * index, 69.6, 9.2, 4.6, '', (colour, colour, MISSING)[index], colour)
for index, colour in enumerate(COLOURS):
    fill = ('white', 'white', MISSING)[index]
    box(91 + 12 * index, 70, 11, 4.8, r'expert $\mu,\sigma$', fill, colour, 9, 2)
    box(2 + 13.2 * index, 51, 12.2, 4.8, 'decoder', fill, colour, 9.5, 2)
    scores(92.3 + 12 * index, 47.9, colour, ((), (4,), (1, 3))[index])
for middle in (21.5, 65):
    text(middle, 65, '$e$ = concatenation\n(a missing sensor is read as zeros)')
text(108.5, 65.2, r'$w=f\,/\,\sigma\qquad e=\frac{\sum w\,\mu}{\sum w+0.01}$', 13)
text(21.5, 46.6, 'reconstruct every present sensor\n' r'$-\,f\,\log p(o\mid s)$', 10.5)
scores(60.8, 47.9, '#E69F00')
text(65, 44.4, 'own pair against all others:  $u(s_i)\\cdot v(e_j)$', 10.5)
text(108.5, 44.4, r'each sensor apart, where present:  $-\|g(s_i)-\mu_j\|^2$', 10.5)

# Dynamics, heads and imagination, shared.
text(33, 34, 'recurrent state-space model over time', 11, weight='bold')
for index, step in enumerate(('t-1', 't', 't+1')):
    left = 9 + 19 * index
    box(left, 21.5, 10, 6.5, f'$h_{{{step}}}$', size=12)
    box(left, 9, 10, 6.5, f'$z_{{{step}}}$', size=12)
    arrow((left + 5, 21.5), (left + 5, 15.5))
    arrow((left + 5, 4.6), (left + 5, 9))
    text(left + 5, 3.2, f'$e_{{{step}}}$', 12)
    if index:
        arrow((left - 9, 24.7), (left, 24.7))
        arrow((left - 9, 13.5), (left, 22.5))
        arrow((left - 4, 29.6), (left, 27.4))
        text(left - 5, 30.4, f'$a_{{{step}}}$', 12, ha='right')
text(53.2, 18.6, 'prior  $p(z\\mid h)$', 10, ha='left')
text(53.2, 6.6, 'posterior  $q(z\\mid h,e)$', 10, ha='left')
text(62, 12.6, 'KL', 10)
arrow((59.5, 8.2), (59.5, 17), linewidth=0.8, arrowstyle='<|-|>')
text(101, 34, 'behaviour, learned in imagination', 11, weight='bold')
for index in range(4):
    left = 76 + 13 * index
    box(left, 21.5, 9, 6.5, rf'$\hat s_{{t+{index}}}$' if index else '$s_t$', size=12)
    if index:
        arrow((left - 4, 24.7), (left, 24.7))
        text(left - 2, 31, '$a$', 12)
        arrow((left - 2, 29.8), (left - 2, 25.5))
        arrow((left + 4.5, 21.5), (left + 4.5, 18))
        text(left + 4.5, 16.2, r'$\hat r,\ v$', 12)
text(126.2, 24.7, '…', 14)
for left, name in ((76, 'reward'), (93.5, 'value'), (111, 'actor')):
    box(left, 3, 15, 6.5, name)
text(101, 11.8, 'heads on the features $s=[z,h]$', 10, style='italic')

figure.savefig(pathlib.Path(__file__).with_name('method.png'), dpi=110)
