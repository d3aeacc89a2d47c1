"""The colours of all pictures and figures."""

# Okabe and Ito's palette, which stays apart under the common kinds of colour blindness.
BLUE, ORANGE, GREEN, PURPLE = '#0072B2', '#E69F00', '#009E73', '#CC79A7'
VERMILION, SKY, BLACK, GREY = '#D55E00', '#56B4E9', '#000000', '#808080'
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
# For many curves: of Paul Tol's, the ones that are not like those above.
MORE_COLOURS = ('#882255', '#999933', '#332288')
# Of the methods, the same in every figure.
COLOURS = {'mummi': BLUE, 'cvrl': ORANGE, 'dreamer': GREEN}
OTHER_COLOURS = (PURPLE, VERMILION, SKY, BLACK)


def rgb(colour):
    """A colour as (red, green, blue) from 0 to 255."""
    return tuple(bytes.fromhex(colour[1:]))
