"""The arm, the pad, the table and its dirt, of the task `wipe_table` (wiping.py).

Metres, kilograms, seconds; z = 0 is the top of the table, x points away from the arm's base.
"""

import os

import numpy as np

TABLE = 0.2  # half of the side of the table
BASE = -0.45, 0, -0.2  # here the wrist is far from its singularities over the whole table
PAD = 0.035, 0.035, 0.01  # halves of its sides
HOLDER = 0.11  # from the wrist to the middle of the pad
EYE, FOCUS, FIELD = (0.5, -0.33, 0.7), (-0.03, 0.0, 0.03), 38  # of the camera; degrees
NEAR, FAR = 0.1, 2.0  # its planes
# dm_control's arm has rotors of 4 and 2 kg m2 and frictions of 2 and 1 Nm: so heavy that the pad
# strikes the table with many hundreds of newtons. They are taken so many times.
LIGHTER = 0.1
TIMESTEP = 0.0025  # of the physics

# --- Dirt
CELLS = 64  # along a side of the table; also the pixels of its texture
MARKS = 100  # steps of the path along which dirt lies, and what all dirt counts
STRIDE, WIDTH = 0.008, 0.04  # of the path
CLEAN, DIRTY = (196, 178, 148), (74, 44, 24)


def scene():
    """The `mujoco.MjModel` of arm, pad and table."""
    import mujoco
    from dm_control.entities.manipulators.kinova import assets_path
    spec = mujoco.MjSpec.from_file(os.path.join(assets_path.KINOVA_ROOT, 'jaco_arm.xml'))
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.stat.extent, spec.visual.map.znear, spec.visual.map.zfar = 1, NEAR, FAR
    for body in spec.bodies:
        body.gravcomp = 1  # the motors carry the arm
    for joint in spec.joints:
        joint.armature *= LIGHTER
        joint.frictionloss *= LIGHTER
    spec.body('b_base').pos = BASE

    kinds, world, wrist = mujoco.mjtGeom, spec.worldbody, spec.body('b_6')
    wrist.add_geom(
        name='holder', type=kinds.mjGEOM_CYLINDER, size=(0.015, HOLDER / 2, 0),
        pos=(0, 0, -HOLDER / 2), mass=0.1, rgba=(0.7, 0.7, 0.7, 1))
    pad = wrist.add_body(name='pad', pos=(0, 0, -HOLDER), gravcomp=1)
    grip = dict(contype=4, conaffinity=4, friction=(0.3, 0.005, 0.0001), solref=(0.02, 1))
    pad.add_geom(
        name='pad', type=kinds.mjGEOM_BOX, size=PAD, mass=0.2, rgba=(0.85, 0.15, 0.15, 1), **grip)
    pad.add_site(name='sole', pos=(0, 0, -PAD[2]), group=4)
    pad.add_site(name='wrist', pos=(0, 0, PAD[2]), group=4)
    pad.add_site(
        name='whole', type=kinds.mjGEOM_BOX, size=[1.5 * side for side in PAD], group=4)
    # 7: the arm's geoms (3 and 2) and the pad.
    world.add_geom(
        name='table', type=kinds.mjGEOM_BOX, size=(TABLE, TABLE, 0.015), pos=(0, 0, -0.015),
        rgba=(0.6, 0.5, 0.38, 1), **(grip | dict(contype=7, conaffinity=7)))
    spec.add_texture(
        name='top', type=mujoco.mjtTexture.mjTEXTURE_2D, width=CELLS, height=CELLS, nchannel=3,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT, rgb1=np.divide(CLEAN, 255))
    top = spec.add_material(name='top')
    top.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = 'top'
    # Half a millimetre above the table, where nothing can touch it.
    world.add_geom(
        name='top', type=kinds.mjGEOM_PLANE, size=(TABLE, TABLE, 0.1), pos=(0, 0, 0.0005),
        material='top', rgba=(1, 1, 1, 1), contype=0, conaffinity=0)
    away = np.subtract(EYE, FOCUS)
    right = np.cross((0, 0, 1), away)
    world.add_camera(
        name='view', pos=EYE, xyaxes=[*right, *np.cross(away, right)], fovy=FIELD)
    world.add_light(
        pos=(0.5, -0.5, 1.5), dir=(-0.3, 0.3, -1), diffuse=(0.8, 0.8, 0.8))
    for name, kind, site in (
            ('force', mujoco.mjtSensor.mjSENS_FORCE, 'wrist'),
            ('torque', mujoco.mjtSensor.mjSENS_TORQUE, 'wrist'),
            ('contact', mujoco.mjtSensor.mjSENS_TOUCH, 'whole')):
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site)
    return spec.compile()


class Dirt:
    """Cells of the table along a random path, `places` [n, 2] in metres, until they are wiped.

    picture: uint8 [CELLS, CELLS, 3], rows along y and columns along x. `changed` is for whoever
    shows it.
    """

    def __init__(self, random):
        """random: a numpy generator."""
        edge = TABLE - PAD[0]
        at, heading = random.uniform(-edge, edge, 2) * 0.8, random.uniform(-np.pi, np.pi)
        path = []
        for _ in range(MARKS):
            path.append(at)
            heading += random.normal(0, 0.25)
            ahead = at + STRIDE * np.array([np.cos(heading), np.sin(heading)])
            if np.abs(ahead).max() > edge:  # turn round at the edge
                heading += np.pi / 2
                ahead = np.clip(ahead, -edge, edge)
            at = ahead
        centres = (np.arange(CELLS) + 0.5) / CELLS * 2 * TABLE - TABLE
        cells = np.stack(np.meshgrid(centres, centres), -1)  # [row, column, (x, y)]
        away = np.linalg.norm(cells[:, :, None] - np.array(path), axis=-1).min(-1)
        self.cells = np.argwhere(away <= WIDTH / 2)
        self.places = cells[tuple(self.cells.T)]
        self.worth = MARKS / len(self.cells)  # of a cell, in marks
        self.picture = np.full((CELLS, CELLS, 3), CLEAN, np.uint8)
        self.picture[tuple(self.cells.T)] = DIRTY
        self.changed = True

    def wipe(self, centre, turned):
        """Clean what lies under a pad at `centre` [2] whose axes are the columns of `turned`
        [2, 2]; returns how many marks that was."""
        under = (np.abs((self.places - centre) @ turned) <= PAD[:2]).all(-1)
        if not under.any():
            return 0.0
        self.picture[tuple(self.cells[under].T)] = CLEAN
        self.cells, self.places = self.cells[~under], self.places[~under]
        self.changed = True
        return self.worth * under.sum()
