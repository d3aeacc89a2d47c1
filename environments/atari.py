"""Atari games by ale-py, `atari_<game>`, under the protocol of Machado et al. (arXiv 1709.06009):
sticky actions, no-op starts, an episode is a whole game of at most 108,000 frames."""

import difflib

import gymnasium
import numpy as np

from config import UserError
from environments import gymnasium_tasks

STICKY = 0.25  # chance at each frame that the emulator repeats the last action
NO_OPS = 30  # at most so many frames of doing nothing begin an episode
FRAMES = 108000  # of an episode, half an hour of play


class LastTwoFrames(gymnasium.Wrapper):
    """Shows the brighter of the last two frames at each pixel: games draw some sprites only in
    every other one (Mnih et al., 2015)."""

    def reset(self, **words):
        self._last, info = self.env.reset(**words)
        return self._last, info

    def step(self, action):
        frame, *rest = self.env.step(action)
        shown, self._last = np.maximum(frame, self._last), frame
        return shown, *rest


class NoOpStart(gymnasium.Wrapper):
    """Begins an episode with 1 to 30 frames of doing nothing, drawn by its seed."""

    def reset(self, **words):
        observation, info = self.env.reset(**words)
        for _ in range(self.unwrapped.np_random.integers(1, NO_OPS + 1)):
            observation, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                observation, info = self.env.reset()
        return observation, info


def make(config, seed):
    """The environment of a configuration whose task is `atari_<game>`. One step is one frame: the
    usual protocol holds an action for four. Raises `UserError` where the game is unknown."""
    gymnasium_tasks.register('ale_py', config.task)
    import ale_py
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    env = gymnasium_tasks.built(
        config.task, identity(config.task), None, obs_type='rgb', frameskip=1,
        repeat_action_probability=STICKY, full_action_space=config.full_actions,
        max_num_frames_per_episode=config.time_limit or FRAMES)
    return gymnasium_tasks.SensorTask(NoOpStart(LastTwoFrames(env)), config, seed)


def identity(task):
    """The id of a game, 'ALE/SpaceInvaders-v5' of 'atari_space_invaders'."""
    known = {
        name.removeprefix('ALE/').removesuffix('-v5').lower(): name
        for name in gymnasium.registry if name.startswith('ALE/') and name.endswith('-v5')}
    game = task.removeprefix('atari_').replace('_', '').lower()
    if game not in known:
        near = difflib.get_close_matches(game, known, n=1, cutoff=0)[0]
        raise UserError(f'no task {task}; did you mean --task atari_{near}?')
    return known[game]
