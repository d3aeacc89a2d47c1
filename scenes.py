"""Drawn videos: closed loops of dead leaves before a moving camera.

Dead leaves (Lee, Mumford & Huang, IJCV 2001) are shapes that hide each other, with a power law
of sizes and 1/f texture, here standing in depth. They have the edges, the occlusions and about
the 1/f^2 power of photographs. Colours follow Ruderman, Cronin & Chiao (JOSA A 1998): normal in
log luminance, yellow against blue and red against green, with falling deviations.
"""

import numpy as np
import tqdm

SIDE = 64  # pixels, height and width of a frame
SUPERSAMPLING = 3
TEXELS = 256  # side of a texture, which repeats
SPAN = 8.0  # metres after which the world repeats, in depth and sideways: so loops close
NEAR, VIEW = 0.6, 1.4  # metres to the nearest thing; width of the view at a metre


def _texture(random):
    """1/f noise of deviation 1 that tiles, float32 (levels, TEXELS, TEXELS): every level lacks
    the upper half of the frequencies of the one before, for what is seen from afar."""
    frequency = np.fft.fftfreq(TEXELS, 1 / TEXELS)
    radius = np.hypot(frequency[:, None], frequency)
    spectrum = np.fft.fft2(random.standard_normal((TEXELS, TEXELS))) / np.maximum(radius, 2)
    spectrum[0, 0] = 0
    levels = np.array([
        np.fft.ifft2(spectrum * (radius < TEXELS / 2 ** level)).real for level in range(7)])
    return (levels / levels[0].std()).astype(np.float32)


def _colours(random, count, luminance, tint, variety):
    """Logarithms of linear red, green and blue, (count, 3)."""
    light, yellow, red = random.standard_normal((3, count, 1))
    return (luminance + 0.55 * min(1, variety) * light
            + (tint[0] + 0.25 * variety * yellow) * np.array([0.5, 0.5, -1])
            + (tint[1] + 0.1 * variety * red) * np.array([1, -1, 0]))


def _wave(phase, turns, start):
    return np.sin(2 * np.pi * (turns * phase + start))


class Scene:
    """Leaves on a ground under a sky, and a camera on a closed path.

    Phases 0 and 1 give the same picture. Metres; x right, y down, z ahead.
    """

    def __init__(self, random, leaves=400):
        self.motion = random.choice(['forward', 'forward', 'sideways', 'orbit'])
        self.texture = _texture(random)
        tint = random.normal([0.3, -0.07], [0.15, 0.05])
        materials = _colours(random, 6, -1.7, tint, 1.0)
        materials[0] = _colours(random, 1, -1.3, (0.25, 0.15), 1.7)  # something colourful
        self.ground, *self.hills = _colours(random, 3, -1.2, tint, 0.7)
        self.sky = _colours(random, 1, -0.2, (random.normal(-0.3, 0.15), -0.12), 0.4)[0]
        self.haze = _colours(random, 1, 0.0, (random.normal(-0.05, 0.1), -0.02), 0.3)[0]
        self.fog = random.uniform(10, 40)  # metres
        self.height = random.uniform(0.45, 0.9)  # of the camera above the ground
        self.tilt = random.normal(0, 0.12)
        self.clouds = random.uniform(0, 0.5)
        self.exposure = random.uniform(0.5, 0.95)
        self.light = random.normal([0, -0.5], [0.45, 0.1])  # change of log light along x, y
        self.starts = random.random(4)

        # Every octave of sizes covers the same area: density r^-3 between two ends.
        low, high = 0.08, 1.8
        self.radius = np.sort(
            (random.random(leaves) * (low ** -2 - high ** -2) + high ** -2) ** -0.5)[::-1]
        self.stretch = np.exp(random.normal(0, 0.35, (leaves, 1)).clip(-0.4, 0.4) * [1, -1])
        self.power = random.choice([2, 2, 2.5, 8], leaves)  # 2: an ellipse; 8: about a box
        self.ragged = random.uniform(0.1, 0.45, leaves) * (self.power < 8)
        self.angle = random.uniform(0, 2 * np.pi, leaves) * (self.power < 8)
        self.offset = random.integers(0, TEXELS, (leaves, 2))
        self.grain = random.normal(0.4, 0.06, (leaves, 3)) * random.uniform(0.3, 1.5, (leaves, 1))
        self.reach = self.radius * self.stretch.max(1) * 1.4
        self.place, self.colour = np.zeros((2, leaves, 3))
        self.turns = np.zeros(leaves, int)  # times that it goes around the world in a loop
        self.sway = np.zeros((leaves, 3))  # sideways: metres, turns, start
        crowd = random.integers(14, 60)
        for leaf, radius in enumerate(self.radius):
            if leaf < crowd or random.random() < 0.2:
                self._stand(random, leaf, radius)
                self.colour[leaf] = random.choice(materials)
            else:  # grows on a larger one, a little before it
                parent = random.integers(min(leaf, 2 * crowd))
                right, below = random.normal(0, 0.55, 2) * self.stretch[parent] - [0, 0.2]
                self.place[leaf] = self.place[parent] + (
                    right * self.radius[parent], below * self.radius[parent], -radius / 10)
                self.turns[leaf], self.sway[leaf] = self.turns[parent], self.sway[parent]
                self.colour[leaf] = (
                    self.colour[parent] if random.random() < 0.8 else random.choice(materials))
            self.colour[leaf] += random.normal(0, 0.22) + random.normal(0, 0.06, 3)

    def _stand(self, random, leaf, radius):
        """Put a leaf on the ground, with a motion of its own if it is small."""
        reach = self.reach[leaf]
        if reach < 0.8 and random.random() < 0.4:
            self.sway[leaf] = random.uniform(0.1, 0.6), random.integers(1, 3), random.random()
        if reach < 0.8 and random.random() < 0.3:
            self.turns[leaf] = random.choice([-1, 1])
        if self.motion == 'forward':  # leave the way clear, also for its repetition at -SPAN
            clear = 0.6 + 0.9 * reach + self.sway[leaf, 0]
            aside, ahead = clear + random.exponential(1.1), random.uniform(0, SPAN)
            aside = min(aside, SPAN - clear)
        else:
            aside = random.uniform(0, SPAN / 2)
            ahead = random.uniform(min(0.7 + 1.2 * reach, 5), SPAN - 0.6)
        self.place[leaf] = (
            random.choice([-1, 1]) * aside,
            self.height - 0.85 * radius * self.stretch[leaf, 1], NEAR + ahead)

    def _look(self, level, first, second):
        rows, columns = (np.floor(x).astype(int) % TEXELS for x in (first, second))
        return self.texture[min(level, len(self.texture) - 1)][rows, columns]

    def draw(self, phase, side):
        """Linear light (side, side, 3) at `phase` of the loop."""
        first, second, double, third = _wave(phase, np.array([1, 1, 2, 1]), self.starts)
        orbit = self.motion == 'orbit'
        camera_x = first * (0.9 if orbit else 0.12) + SPAN * phase * (self.motion == 'sideways')
        camera_z = second * 0.5 * orbit + SPAN * phase * (self.motion == 'forward')
        scale = side / VIEW * (1 + 0.05 * third)
        pixels = np.arange(side, dtype=np.float32) + 0.5
        across = ((pixels - side * (0.5 + 0.07 * second)) / scale)[None]
        down = ((pixels - side * (0.5 + self.tilt + 0.03 * double)) / scale)[:, None]
        light = self._backdrop(across, down, camera_x, camera_z, scale)

        x = self.place[:, 0] + self.sway[:, 0] * _wave(phase, *self.sway[:, 1:].T) - camera_x
        x = (x + SPAN / 2) % SPAN - SPAN / 2
        z = NEAR + (self.place[:, 2] + self.turns * SPAN * phase - camera_z - NEAR) % SPAN
        shown = [(z[leaf], leaf, x[leaf] + shift) for shift in (-SPAN, 0, SPAN) for leaf in
                 np.flatnonzero(abs(x + shift) - self.reach < 0.7 * VIEW * z)]
        for depth, leaf, aside in sorted(shown, reverse=True):
            self._paint(light, leaf, aside, depth, across, down, scale)
        return light

    def _backdrop(self, across, down, camera_x, camera_z, scale):
        """Sky, hills and ground."""
        high = np.clip(-down / 0.6, 0, 1)[..., None]
        clouds = self._look(1, down * 200, across * 70)[..., None].clip(0, 1.5)
        light = np.exp(self.haze + (self.sky - self.haze + self.clouds * clouds) * high)
        haze = np.exp(self.haze)
        for index, colour in enumerate(self.hills):
            ridge = self._look(3, np.full_like(across, 90 * index), across * 90)
            cover = np.clip((down + 0.12 - 0.05 * index + 0.05 * ridge) * scale, 0, 1)[..., None]
            grain = self._look(0, down * 200, across * 160)[..., None]
            light += cover * (np.exp(colour + 0.3 * grain) / 2 + haze * (0.5 - 0.2 * index) - light)
        below = np.flatnonzero(down[:, 0] > 0.03)
        depth = self.height / down[below]
        texels = TEXELS * 4 / SPAN
        grain = np.array([
            self._look(int(np.ceil(np.log2(max(1, texels * far * far / self.height / scale)))),
                       (far + camera_z) * texels, (far * across[0] + camera_x) * texels)
            for far in depth[:, 0]])
        clear = np.exp(-depth / self.fog)[..., None]
        light[below] = np.exp(self.ground + 0.4 * grain[..., None]) * clear + haze * (1 - clear)
        return light.astype(np.float32)

    def _paint(self, light, leaf, x, depth, across, down, scale):
        """Paint one leaf over `light`."""
        y, radius, reach = self.place[leaf, 1], self.radius[leaf], self.reach[leaf]
        columns = slice(*np.searchsorted(across[0], [(x - reach) / depth, (x + reach) / depth]))
        rows = slice(*np.searchsorted(down[:, 0], [(y - reach) / depth, (y + reach) / depth]))
        patch = light[rows, columns]
        if not patch.size:
            return
        right = (across[:, columns] * np.float32(depth) - np.float32(x)) / np.float32(radius)
        below = (down[rows] * np.float32(depth) - np.float32(y)) / np.float32(radius)
        cosine, sine = np.cos(self.angle[leaf]), np.sin(self.angle[leaf])
        wide, tall = self.stretch[leaf]
        first = np.float32(cosine / wide) * right + np.float32(sine / wide) * below
        second = np.float32(cosine / tall) * below - np.float32(sine / tall) * right
        size = radius * scale / depth  # in pixels
        texels = 60 * radius ** 0.5
        grain = self._look(
            int(np.ceil(np.log2(max(1, texels / size)))),
            second * texels + self.offset[leaf, 0], first * texels + self.offset[leaf, 1])
        power = self.power[leaf]
        distance = (abs(first) ** power + abs(second) ** power) ** (1 / power)
        # Leaves come out of the haze, and fade where they would hit the camera.
        fade = min(1, (NEAR + SPAN - depth) / 1.5, (depth - NEAR) / 0.25)
        inside = (1 + self.ragged[leaf] * grain - distance) * size + 0.5
        cover = fade * np.clip(inside, 0, 1)[..., None]
        shade = (self.light[0] * right + self.light[1] * below)[..., None]
        colour = np.exp(self.colour[leaf] + grain[..., None] * self.grain[leaf] + shade)
        clear = np.exp(-depth / self.fog)
        patch += cover * (colour * clear + np.exp(self.haze) * (1 - clear) - patch)


def draw_videos(seed, stream, videos, frames, side=SIDE):
    """Loops of independent scenes, uint8 (videos, frames, 3, side, side).

    `seed` and `stream` are whole numbers from 0; another pair gives other videos. Each video
    has its own generator, so it does not depend on their number. The same numbers give the
    same bytes with the same numpy on the same kind of processor.
    """
    drawn = np.empty((videos, frames, 3, side, side), np.uint8)
    for index in tqdm.trange(videos, desc='drawing', unit='video'):
        scene = Scene(np.random.default_rng([seed, stream, index]))
        light = np.array([
            scene.draw(frame / frames, side * SUPERSAMPLING).reshape(
                side, SUPERSAMPLING, side, SUPERSAMPLING, 3).mean((1, 3))
            for frame in range(frames)])
        exposed = np.clip(scene.exposure * light / np.percentile(light, 95), 0, 1)
        # Cameras give more contrast than the 1 / 2.2 of a display would need.
        drawn[index] = (255 * exposed ** (1 / 1.6)).round().transpose(0, 3, 1, 2)
    return drawn
