"""The families of tasks, a file each: environments whose observations are sensors.

`wrappers.make` chooses the file by the task's prefix. Nothing here imports TensorFlow; a
simulator is imported where it is needed, so that importing a file is harmless and quick.
"""

import os

from config import UserError

SIZE = 64  # pixels, height and width of the pictures


def no_opengl(error):
    """The `UserError` of a picture that could not be rendered."""
    backend = os.environ.get('MUJOCO_GL')
    told = f' with MUJOCO_GL={backend}' if backend else ''
    return UserError(
        f'no picture could be rendered with OpenGL{told} ({error}); on Debian or Ubuntu install '
        'libegl1 and libgl1-mesa-dri, or install libosmesa6 and set MUJOCO_GL=osmesa')
