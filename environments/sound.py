"""The sound of contacts: what a microphone would hear of a simulation, made from its forces.

Each body rings with a few damped tones (modal synthesis: van den Doel & Pai, The Sounds of
Physical Shapes, Presence 7(4), 1998; for simulated bodies: O'Brien, Shen & Gatchalian, SCA 2002),
which each rise of the normal force on it strikes anew, at every step of the physics. A decision's
sound is read as the levels of its mel bands. Nothing here imports a simulator before it is asked
for.
"""

import numpy as np

RATE = 16000  # samples a second
BANDS = 32
LOWEST = 50.0  # Hz, of the bands; the highest is half the rate

# The partials of a free bar that is struck (Fletcher & Rossing, The Physics of Musical
# Instruments), each weaker than the one before.
PARTIALS = np.array([1.0, 2.756, 5.404])
STRENGTHS = np.array([1.0, 0.5, 0.25])
# Of a body of one kilogram. Bodies of one shape and material ring in inverse proportion to their
# length, which goes with the cube root of the mass. The limits keep all partials audible.
PITCH, PITCHES = 600.0, (80.0, 1400.0)  # Hz
# Internal friction: a tone of frequency f decays as exp(-pi f FRICTION t) (Wildes & Richards,
# 1988; of the order of wood).
FRICTION = 0.02

# A force that rises by all of the robot's weight strikes so loud a tone, 1 being the loudest
# that a sound file holds; and the room's noise is so loud, as a standard deviation.
GAIN, NOISE = 0.1, 0.001


def mel_filters(size):
    """Weights [32, size // 2 + 1] of the frequencies of a transform of `size` samples in each
    band: triangles at even distances in mel, 2595 log10(1 + f / 700), each of sum 1."""
    ends = 2595 * np.log10(1 + np.array([LOWEST, RATE / 2]) / 700)
    edges = 700 * (10 ** (np.linspace(*ends, BANDS + 2) / 2595) - 1)
    frequencies = np.arange(size // 2 + 1) * RATE / size
    low, centre, high = (edges[i:i + BANDS, None] for i in range(3))
    triangles = np.minimum(
        (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)).clip(0)
    return (triangles / triangles.sum(1, keepdims=True)).astype(np.float32)


class Levels:
    """Samples [count] as levels float32 [32] of mel bands, in decibels over the room's noise:
    10 log10(1 + power / noise). So the noise alone has about 3, and no sound at all has 0."""

    def __init__(self, count):
        # At the least the frequencies of an eighth of a second, so that no band is empty.
        self.size = max(2048, 1 << (count - 1).bit_length())
        self.window = np.hanning(count + 2)[1:-1].astype(np.float32)
        self.filters = mel_filters(self.size) / (np.square(self.window).sum() * NOISE ** 2)

    def __call__(self, samples):
        spectrum = np.fft.rfft(self.window * samples, self.size)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        return (10 * np.log10(1 + self.filters @ power)).astype(np.float32)


class Ear:
    """Listens to a dm_control `Physics`, whose `step` it replaces by one that tells the contact
    forces of each step, and is otherwise the same.

    seconds: the length of a decision, which is what is heard at once.
    """

    def __init__(self, physics, seconds):
        import mujoco
        self._mujoco, self._physics = mujoco, physics
        model = physics.model
        euler = model.opt.integrator != mujoco.mjtIntegrator.mjINT_RK4
        self._advance = mujoco.mj_step2 if euler else mujoco.mj_step
        self._force = np.zeros(6)
        self._body = np.array(model.geom_bodyid)
        self._moving = moving = np.flatnonzero(np.array(model.body_weldid))
        pitch = np.clip(PITCH * np.maximum(model.body_mass[moving], 1e-6) ** (-1 / 3), *PITCHES)
        tones = np.outer(pitch, PARTIALS).ravel()
        exponents = (2j - FRICTION) * np.pi * tones / RATE
        # How loud each tone is where the force on its body rises by a newton.
        self._strengths = np.tile(STRENGTHS, len(moving)).astype(np.float32) * (
            GAIN / (9.81 * float(model.body_subtreemass[0])))
        samples = round(model.opt.timestep * RATE)  # of a step
        self._tones = np.exp(np.outer(exponents, np.arange(samples))).astype(np.complex64)
        self._passing = np.exp(exponents * samples).astype(np.complex64)
        self.count = round(seconds / model.opt.timestep) * samples
        self._levels = Levels(self.count)
        self._silence()
        physics.step = self.step

    def begin(self, random):
        """An episode begins: in the state that the physics is in, nothing sounds. random: the
        numpy `Generator` of the room's noise."""
        self._random = random
        self._silence()
        self._heard = self._noise(self.count)

    def _silence(self):
        self._last = self._forces()
        self._ringing, self._struck = np.zeros(len(self._passing), np.complex64), []

    def step(self, nstep=1):
        """As dm_control's, one step at a time: forces belong to the contacts of the same moment,
        which the first half of the next step, made here too, replaces."""
        model, data = self._physics.model.ptr, self._physics.data.ptr
        with self._physics.check_invalid_state():
            for _ in range(nstep):
                self._advance(model, data)
                self._strike()
                self._mujoco.mj_step1(model, data)

    def listen(self):
        """What was heard since it was asked last, and before where that is shorter than a
        decision: (the new samples, int16 [count], 0 after their end; levels of the bands)."""
        if self._struck:
            sound = (np.array(self._struck) @ self._tones).imag.ravel()
            sound += self._noise(len(sound))
            self._struck = []
            self._heard = np.concatenate([self._heard, sound])[-self.count:]
            new = sound[-self.count:]
        else:
            new = self._heard
        samples = np.zeros(self.count, np.int16)
        samples[:len(new)] = np.rint(32767 * np.clip(new, -1, 1))
        return samples, self._levels(self._heard)

    def _noise(self, count):
        return NOISE * self._random.standard_normal(count, np.float32)

    def _strike(self):
        forces = self._forces()
        rises = np.maximum(forces - self._last, 0)[self._moving].astype(np.float32)
        self._last = forces
        self._ringing = self._ringing * self._passing
        if rises.any():
            self._ringing += self._strengths * rises.repeat(len(PARTIALS))
        self._struck.append(self._ringing)

    def _forces(self):
        """The normal force on each body, newtons: the sum over its contacts."""
        model, data = self._physics.model.ptr, self._physics.data.ptr
        if not data.ncon:
            return np.zeros(model.nbody)
        normals = np.empty(data.ncon)
        for index in range(data.ncon):
            self._mujoco.mj_contactForce(model, data, index, self._force)
            normals[index] = self._force[0]
        bodies = self._body[data.contact.geom]
        return np.bincount(bodies.ravel(), normals.repeat(2), model.nbody)
