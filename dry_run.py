"""What `--dry_run` does: everything is built, the graph of an update too, which finds what is wrong
in a method of one's own; and printed, what it is: sensors, sizes, memory and disk."""

import numpy as np

from config import SENSORS


def show(experiment):
    """Print it, for an `Experiment`."""
    config, computing = experiment.config, experiment.device  # a batch that it cannot share: first
    description, agent = experiment.description, experiment.agent()
    agent.trace(config.batch, config.length, description.observation_space)
    print(f'{experiment.title}, preset {config.preset}, {agent.compute.name} products on '
          f'{computing}')
    print('\nsensors')
    for sensor, shape in experiment.shapes.items():
        row, kind = SENSORS[sensor], description.observation_space[sensor].dtype
        print(f'  {sensor:<22}{shape!s:<16}{kind!s:<9}{row.unit}')
    choice = ' one of' * (not agent.actions.smooth)
    print(f'  {"actions":<22}{description.action_space.shape}{choice}')
    print('\ntrainable values')
    for part, count in agent.parts().items():
        print(f'  {part:<22}{count:>14,}')
    entry = sum(
        int(np.prod(space.shape)) * space.dtype.itemsize
        for space in description.observation_space.values()) + 4 * (agent.actions.size + 3)
    disk = entry * config.steps / config.action_repeat / 1e9
    print('\nestimates')
    print(f'  replay on disk        {disk:>10.2f} GB after {config.steps:,} steps')
    print(f'  replay in memory      {min(disk, config.replay_memory):>10.2f} GB (--replay_memory)')
    print(f'  one training batch    {entry * config.batch * config.length / 1e9:>10.2f} GB')
    for advice in experiment.advice(agent):
        print(f'\n{advice}')
