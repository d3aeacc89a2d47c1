"""`wipe_table`: a robot arm wipes dirt off a table, seen, felt and heard.

The task of the paper was not published. This one has the arm that comes with dm_control (a Kinova
Jaco, Apache 2.0), a pad in place of its hand, and the rewards of robosuite's Wipe in their
published proportions. docs/wiping.md describes it.
"""

import gymnasium
import numpy as np

from config import SENSORS, UserError
from environments import SIZE, checked_action, checked_pictures, chosen, stable
from environments.sound import BANDS, Ear
from environments.table import FAR, MARKS, NEAR, TIMESTEP, Dirt, scene

TASK = 'wipe_table'

# --- Control
STEP = 0.025  # of a control step; with an action repeat of 2 there are 20 decisions a second
SUBSTEPS = round(STEP / TIMESTEP)
REACH = 0.01  # the pad moves by this at most in a control step, along each axis
LOW, HIGH = (-0.165, -0.165, -0.012), (0.165, 0.165, 0.12)  # of the sole's goal
START = 0.12  # the first goal lies so far from the middle at the most, in x and y
STIFFNESS, DAMPING = 6000, 400  # N/m, N s/m
TURNING, TURNING_DAMPING = 300, 12  # Nm/rad, Nm s/rad
LIMIT = 400  # control steps of an episode
# Joints at which the pad is over the middle of the table, the elbow up.
HOME = 3.0, 3.74, 1.49, -0.28, 1.04, -0.41

# --- Rewards of robosuite's Wipe for a twentieth of a second (of a mark: once)
# The one for collisions is left out: within LOW and HIGH the arm can touch nothing but by its pad.
MARK, NEARNESS, DECAY, CONTACT, PRESSURE, EXCESS, DONE = 50, 5, 5, 0.01, 0.01, -0.05, 25.5
TOUCHES, STRONGEST = 1, 60  # newtons: what counts as contact, and what is too much
PERIOD = 0.05
# No episode of LIMIT control steps has a return above LIMIT STEP / PERIOD = 200: 1 a decision.
SCALE = 1 / (MARK * MARKS * PERIOD / (LIMIT * STEP) + DONE + CONTACT + PRESSURE * STRONGEST)

LEVER = 0.1  # metres: torques are told as forces at this distance

SKY = 84, 100, 118  # what is seen where there is nothing


def toward_dirt(env):
    """The action [3] of a wiper that knows where the dirt is: toward the nearest, along the table,
    pressing lightly. What it gets is what a `WipeTable` has to give."""
    way = np.array([0, 0, -0.004]) - env.goal
    away = env.dirt.places - env.goal[:2]
    way[:2] = away[np.abs(away).max(-1).argmin()] if len(away) else 0
    return np.clip(way / (env.action_repeat * REACH), -1, 1)


class Image:
    """uint8 (64, 64, 3)."""

    space = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)

    def read(self, env):
        image = env.camera.image[::-1].copy()
        image[env.background(image)] = SKY
        return image


class Depth:
    """float16 (64, 64, 1) in centimetres: the model reads depth / 200 - 0.5, and here all lies
    within two metres."""

    space = gymnasium.spaces.Box(0, 100 * FAR, (SIZE, SIZE, 1), np.float16)

    def read(self, env):
        metres = NEAR / (1 - env.camera.depth * (1 - NEAR / FAR))
        return (100 * metres).astype(np.float16)[::-1, :, None]


class Touch:
    """float32 (7,) in newtons, means of the decision: force on the wrist along x, y, z, its torque
    about them at a distance of LEVER, and the force that presses on the pad."""

    space = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)

    def read(self, env):
        return env.felt.astype(np.float32)


class Proprioception:
    """float32 (24,): place and speed of the sole in metres and seconds; cosines, sines and speeds
    of the joints, radians a second."""

    space = gymnasium.spaces.Box(-np.inf, np.inf, (24,), np.float32)

    def read(self, env):
        place, speed = env.sole()
        joints, speeds = env.physics.data.qpos, env.physics.data.qvel
        return np.concatenate(
            [place, speed, np.cos(joints), np.sin(joints), speeds]).astype(np.float32)


class Audio:
    """float32 (32,): the sound of contacts during the decision, see sound.py."""

    space = gymnasium.spaces.Box(0, np.inf, (BANDS,), np.float32)

    def read(self, env):
        return env.levels


READERS = {'image': Image, 'depth': Depth, 'touch': Touch, 'proprioception': Proprioception,
           'audio': Audio}


def make(config, seed):
    """The environment of a configuration whose task is `wipe_table`."""
    return WipeTable(
        config.task, config.sensors, config.action_repeat, config.time_limit or LIMIT,
        config.render, seed)


class WipeTable(gymnasium.Env):
    """The table-wiping task; its observations are sensors.

    task: 'wipe_table'. sensors: 'all' (image, depth, touch) or some of the readers' names.
    action_repeat: control steps of STEP seconds of a decision. time_limit: control steps of an
    episode; LIMIT at most. render: as for the control suite. seed: of the episodes.

    Actions: float32 (3,) in [-1, 1], the pad's way along x, y, z in REACH a control step. Its goal
    is held by a spring, so that it presses the harder, the deeper below the table the goal is.

    Raises `UserError` for an unknown sensor, and where OpenGL does not work; `Broken` where the
    simulation becomes unstable; ValueError for an action that is not finite or not of shape (3,).
    """

    def __init__(
            self, task=TASK, sensors='all', action_repeat=2, time_limit=LIMIT, render='light',
            seed=0):
        from environments import control_suite
        control_suite.load_opengl()
        from dm_control import mujoco
        from dm_control.mujoco import wrapper
        if task != TASK:
            raise UserError(f'no task {task}; did you mean --task {TASK}?')
        self.physics = mujoco.Physics.from_model(wrapper.MjModel(scene()))
        self.action_repeat, self._time_limit = action_repeat, min(time_limit, LIMIT)
        self._steps, self._first_seed = 0, seed

        model = self.physics.model
        self._sole = model.name2id('sole', 'site')
        self._jacobian = np.zeros((6, model.nv))
        readers = {name: READERS[name]() for name in SENSORS if name in READERS}
        if sensors == 'all':
            readers = {name: part for name, part in readers.items() if not SENSORS[name].by_name}
        self.readers = chosen(task, readers, sensors)
        self.observation_space = gymnasium.spaces.Dict({
            name: reader.space for name, reader in self.readers.items()})
        self.ear = Ear(self.physics, action_repeat * STEP) if 'audio' in self.readers else None
        self.action_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
        # Depth is always seen: it tells the background.
        seen = any(SENSORS[name].kind == 'picture' for name in self.readers)
        self.camera = seen and control_suite.Camera(
            self.physics, 'view', render, ('image', 'depth'))

    def reset(self, *, seed=None, options=None):
        from dm_control.utils import inverse_kinematics
        super().reset(seed=self._first_seed if seed is None else seed)
        self._first_seed = None
        self.dirt = Dirt(self.np_random)
        self.goal = self.np_random.uniform((-START, -START, 0.05), (START, START, HIGH[2]))
        self.physics.reset()
        self.physics.data.qpos[:] = HOME
        self.physics.forward()
        inverse_kinematics.qpos_from_site_pose(
            self.physics, 'sole', self.goal, (1, 0, 0, 0), tol=1e-4, inplace=True)
        self.physics.forward()
        self._find()
        self._steps, self.felt = 0, self._feel()
        info = {}
        if self.ear:
            self.ear.begin(self.np_random.spawn(1)[0])  # draws nothing of the task
            info['sound'], self.levels = self.ear.listen()
        return checked_pictures(self._observe()), info

    def step(self, action):
        action = checked_action(action, self.action_space)
        way, before, reward, felt = REACH * np.clip(action, -1, 1), self._steps, 0.0, []
        while self._steps < min(before + self.action_repeat, self._time_limit):
            with stable():
                felt.append(self._drive(np.clip(self.goal + way, LOW, HIGH)))
            reward += self._judge(felt[-1][-1])
            self._steps += 1
        self.felt = np.mean(felt, 0)
        info = {'steps': self._steps - before, 'dirt': len(self.dirt.cells) * self.dirt.worth}
        if self.ear:
            info['sound'], self.levels = self.ear.listen()
        return self._observe(), reward, False, self._steps >= self._time_limit, info

    def close(self):
        self.physics.free()

    def background(self, image):
        """Where the last picture shows nothing, by its depth: the arm is as dark as a background.
        bool [64, 64]."""
        return self.camera.depth[::-1] == 1

    def sole(self):
        """Place and speed of the middle of the pad's sole, metres [3] and metres a second [3]."""
        data = self.physics.data.ptr
        return data.site(self._sole).xpos, self._jacobian[:3] @ data.qvel

    def _drive(self, goal):
        """Move the goal of the sole to `goal` in a control step, and the pad after it. Returns
        what was felt, on average (see `_feel`)."""
        data, felt = self.physics.data.ptr, 0
        site = data.site(self._sole)
        velocity, wrench = (goal - self.goal) / STEP, np.empty(6)
        for _ in range(SUBSTEPS):
            self.goal = self.goal + velocity * STEP / SUBSTEPS
            motion, turned = self._jacobian @ data.qvel, site.xmat
            wrench[:3] = STIFFNESS * (self.goal - site.xpos) + DAMPING * (velocity - motion[:3])
            # The turn that is left to an upright pad, to first order.
            wrench[3:] = TURNING / 2 * (turned[[5, 6, 1]] - turned[[7, 2, 3]])
            wrench[3:] -= TURNING_DAMPING * motion[3:]
            data.qfrc_applied[:] = wrench @ self._jacobian
            self.physics.step()
            self._find()
            felt = felt + self._feel() / SUBSTEPS
        self.goal = goal
        return felt

    def _find(self):
        """How the sole moves by the joints, as they are."""
        import mujoco
        mujoco.mj_jacSite(
            self.physics.model.ptr, self.physics.data.ptr, self._jacobian[:3], self._jacobian[3:],
            self._sole)

    def _feel(self):
        """[7]: force on the wrist, its torque over LEVER, the pad's contact; all in newtons."""
        felt = np.array(self.physics.data.sensordata)
        felt[3:6] /= LEVER
        return felt

    def _judge(self, force):
        """The reward of a control step in which `force` newtons pressed on the pad."""
        site, wiped = self.physics.data.ptr.site(self._sole), 0.0
        if force > TOUCHES and len(self.dirt.cells):
            wiped = self.dirt.wipe(site.xpos[:2], site.xmat.reshape(3, 3)[:2, :2])
        if len(self.dirt.cells):
            away = np.linalg.norm(site.xpos - (*self.dirt.places.mean(0), 0))
            rate = NEARNESS * (1 - np.tanh(DECAY * away))
        else:
            rate = DONE
        if force > STRONGEST:
            rate += EXCESS * force
        elif force > TOUCHES:
            rate += CONTACT + PRESSURE * force
        return float(SCALE * (MARK * wiped + rate * STEP / PERIOD))

    def _observe(self):
        if self.camera:
            self._show()
            self.camera.look()
        return {name: reader.read(self) for name, reader in self.readers.items()}

    def _show(self):
        """Put the dirt on the table."""
        if not self.dirt.changed:
            return
        import mujoco
        model, contexts = self.physics.model.ptr, self.physics.contexts
        model.tex_data[:] = self.dirt.picture[::-1].ravel()  # the first row is the farthest in y
        with contexts.gl.make_current() as context:
            context.call(mujoco.mjr_uploadTexture, model, contexts.mujoco.ptr, 0)
        self.dirt.changed = False
