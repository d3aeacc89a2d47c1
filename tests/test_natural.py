"""The videos behind the robots: their statistics, the safe loader, the import."""

import argparse
import os
import pathlib
import pickle
import re
import resource
import subprocess
import sys

import imageio.v3
import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import config
import natural
import scenes

RANDOM = np.random.default_rng(0)
SMALL = RANDOM.integers(0, 256, (2, 3, 3, 64, 64), np.uint8)


@pytest.fixture(scope='module')
def files():
    return [natural.load(ROOT / f'natural_{part}.pkl') for part in ('train', 'valid')]


def command(*words):
    return subprocess.run(
        [sys.executable, str(ROOT / 'natural.py'), *map(str, words)], capture_output=True,
        text=True, check=False)


def refused(path, words=None):
    """Loading `path` must fail with one line that contains `words`."""
    with pytest.raises(config.UserError, match=words) as caught:
        natural.load(path)
    assert '\n' not in str(caught.value) and 'natural.py' in str(caught.value)


# --- The drawn videos ---

def test_light_becomes_bytes_in_order_of_time_and_colour(monkeypatch):
    """Of a scene whose light rises from left to right, and brightens with time in red alone."""
    class Scene:
        exposure = 0.9

        def __init__(self, random):
            pass

        def draw(self, phase, side):
            light = np.tile(np.arange(side) / side, (side, 1))
            return np.stack([(1 + phase) * light, 0.5 * light, 0 * light], -1)
    monkeypatch.setattr(scenes, 'Scene', Scene)
    drawn = scenes.draw_videos(0, 0, 1, 4, side=8)[0]
    # Means over the finer pixels; exposed by the 95th percentile of all frames and colours.
    fine = 8 * scenes.SUPERSAMPLING
    columns = (np.arange(fine) / fine).reshape(8, -1).mean(1)
    light = np.zeros((4, 3, 8))
    light[:, 0] = (1 + np.arange(4) / 4)[:, None] * columns
    light[:, 1] = 0.5 * columns
    bright = np.percentile(np.repeat(light[:, :, None], 8, 2).transpose(0, 2, 3, 1), 95)
    wanted = 255 * np.clip(0.9 * light / bright, 0, 1) ** (1 / 1.6)
    np.testing.assert_allclose(drawn[:, :, 0], wanted, atol=0.6)
    np.testing.assert_array_equal(drawn, np.repeat(drawn[:, :, :1], 8, 2))


def test_spectrum_of_natural_images(files):
    for videos in files:
        grey = videos[:, ::5].mean(2)
        window = np.hanning(64)[:, None] * np.hanning(64)
        power = abs(np.fft.fft2((grey - grey.mean((2, 3), keepdims=True)) * window)) ** 2
        frequency = np.fft.fftfreq(64, 1 / 64)
        ring = np.hypot(frequency[:, None], frequency).round()
        rings = np.arange(2, 32)
        radial = [power.mean((0, 1))[ring == number].mean() for number in rings]
        slope = np.polyfit(np.log(rings), np.log(radial), 1)[0]
        assert -2.6 < slope < -1.6


def test_motion_is_smooth_and_closed(files):
    for videos in files:
        following = np.roll(videos, -1, 1)
        steps = abs(following.astype(np.int16) - videos).mean((2, 3, 4))
        shuffled = videos[:, RANDOM.permutation(videos.shape[1])].astype(np.int16)
        apart = abs(np.diff(shuffled, axis=1)).mean((1, 2, 3, 4))
        assert steps.min() > 1
        assert (steps.mean(1) < 0.8 * apart).all()
        assert (steps[:, -1] < 1.3 * steps[:, :-1].max(1)).all()  # from the last to the first


def test_colour_and_range(files):
    for videos in files:
        assert 70 < videos.mean() < 170 and videos.std() > 35
        dark, bright = np.percentile(videos, [1, 99])
        assert dark < 60 and bright > 220
        assert abs(videos[:, :, 0].astype(int) - videos[:, :, 2]).mean() > 8


def test_files_and_their_sizes(files):
    assert [videos.shape for videos in files] == [(24, 50, 3, 64, 64), (8, 50, 3, 64, 64)]
    every = [video.tobytes() for videos in files for video in videos]
    assert len(set(every)) == len(every)


def test_the_seed_decides():
    two = scenes.draw_videos(3, 0, videos=2, frames=2, side=16)
    assert two.shape == (2, 2, 3, 16, 16) and two.dtype == np.uint8
    one = scenes.draw_videos(3, 0, 1, 2, 16)
    np.testing.assert_array_equal(two[:1], one)
    assert (one != scenes.draw_videos(4, 0, 1, 2, 16)).mean() > 0.5
    assert (one != scenes.draw_videos(3, 1, 1, 2, 16)).mean() > 0.5


@pytest.mark.parametrize('seed', range(4))
def test_a_scene_is_a_loop(seed):
    scene = scenes.Scene(np.random.default_rng(seed))
    np.testing.assert_allclose(scene.draw(0, 24), scene.draw(1, 24), atol=1e-3)


def test_committed_files_are_what_the_script_draws(files):
    # One frame of one video is enough to notice a change of the drawing.
    scene = scenes.Scene(np.random.default_rng([0, 1, 0]))
    light = scene.draw(0, 192).reshape(64, 3, 64, 3, 3).mean((1, 3)).transpose(2, 0, 1)
    pairs = [light.ravel(), files[1][0, 0].ravel()]
    assert np.corrcoef(np.argsort(np.argsort(pairs)))[0, 1] > 0.99


# --- The loader ---

@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('order', ['C', 'F', 'mixed'])
def test_every_protocol(tmp_path, protocol, order):
    array = (SMALL.transpose(1, 0, 2, 4, 3).copy().transpose(1, 0, 2, 4, 3) if order == 'mixed'
             else np.array(SMALL, order=order))
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(array, protocol))
    loaded = natural.load(tmp_path / 'a.pkl')
    np.testing.assert_array_equal(loaded, SMALL)
    assert loaded.dtype == np.uint8 and loaded.flags.writeable and loaded.flags.c_contiguous


@pytest.mark.parametrize('protocol', range(3))
def test_old_names_of_modules(tmp_path, protocol):
    text = pickle.dumps(SMALL, protocol)
    (tmp_path / 'a.pkl').write_bytes(text.replace(b'numpy._core', b'numpy.core'))
    np.testing.assert_array_equal(natural.load(tmp_path / 'a.pkl'), SMALL)


def test_pickle_of_python_2(tmp_path):
    data = SMALL.tobytes()
    text = (
        b'\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R'
        b'(K\x01(K\x02K\x03K\x03K@K@tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R'
        b'(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T'
        + len(data).to_bytes(4, 'little') + data + b'tb.')
    (tmp_path / 'a.pkl').write_bytes(text)
    np.testing.assert_array_equal(natural.load(tmp_path / 'a.pkl'), SMALL)


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('kind', ['system', 'eval', 'nested', 'in objects', 'after'])
def test_nothing_is_executed(tmp_path, protocol, kind):
    mark = tmp_path / 'executed'
    system = Call(os.system, f'touch {mark}')
    content = {
        'system': system,
        'eval': Call(eval, f'open({str(mark)!r}, "w")'),
        'nested': [{'videos': (SMALL, [system])}],
        'in objects': np.array([system, None], dtype=object),
        'after': (SMALL, system)}[kind]
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol))
    refused(tmp_path / 'a.pkl', 'asks for')
    assert not mark.exists()


def test_allowed_names_only_take_notes(tmp_path):
    # A shape that numpy would try to allocate, and a codec that is not text.
    for text in (
            b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(L99999999999L\ntS"b"\ntR.',
            b'c_codecs\nencode\n(S"x"\nS"zip"\ntR.', b'cnumpy\nndarray\n.'):
        (tmp_path / 'a.pkl').write_bytes(text)
        refused(tmp_path / 'a.pkl')


@pytest.mark.parametrize(('content', 'words'), [
    (np.zeros((1, 2, 3, 64, 64), np.float32), 'not uint8'),
    (np.zeros((1, 2, 3, 64, 64), np.int8), 'not uint8'),
    (np.empty((1, 2, 3, 64, 64), object), 'not uint8'),
    (np.zeros((2, 3, 64, 64), np.uint8), re.escape('(2, 3, 64, 64)')),
    (np.zeros((1, 2, 64, 64, 3), np.uint8), re.escape('(1, 2, 64, 64, 3)')),
    (np.zeros((0, 2, 3, 64, 64), np.uint8), 'at least one'),
    (np.zeros((1, 0, 3, 64, 64), np.uint8), 'at least one'),
    ([1, 2], 'no numpy array'), (None, 'no numpy array')])
@pytest.mark.parametrize('protocol', [4, 5])
def test_other_content(tmp_path, content, words, protocol):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol))
    refused(tmp_path / 'a.pkl', words)


def test_damaged_and_missing(tmp_path):
    path = tmp_path / 'a.pkl'
    refused(path, 'there is no')
    with pytest.raises(config.UserError, match='cannot read'):
        natural.load(tmp_path)
    text = pickle.dumps(SMALL, 4)
    for size in (0, 1, 20, 100, 200, len(text) // 2, len(text) - 1):
        path.write_bytes(text[:size])
        refused(path)
    path.write_bytes(b'version https://git-lfs.github.com/spec/v1\n')
    refused(path)
    for position in range(180):  # a wrong byte is harmless or refused, never another error
        damaged = bytearray(text)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        try:
            natural.load(path)
        except config.UserError:
            pass


BOMBS = {  # a few bytes that ask for a gigabyte
    'a memo': b'\x80\x02Nr\0\0\0\x04.', 'the same as text': b'Np60000000\n.',
    'bytes': b'\x80\x03B\0\0\0\x40.', 'bytes, long': b'\x80\x04\x8e\0\0\0\x40\0\0\0\0.',
    'text': b'\x80\x02X\0\0\0\x40.', 'a changing array': b'\x80\x05\x96\0\0\0\x40\0\0\0\0.',
    'a number': b'\x80\x02\x8b\0\0\0\x40.', 'a frame': b'\x80\x04\x95\0\0\0\x40\0\0\0\0N.'}
MEASURE = """
import sys, config, natural
def peak():
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmPeak'))
before = peak()
for path in sys.argv[1:]:
    try:
        natural.load(path)
    except config.UserError as error:
        print(error)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='measures memory by /proc')
def test_memory_is_bounded_by_the_size_of_the_file_whatever_a_pickle_claims(tmp_path):
    paths = [tmp_path / str(number) for number in range(len(BOMBS) + 1)]
    for path, content in zip(paths, [*BOMBS.values(), b'']):
        path.write_bytes(content)
    done = subprocess.run(
        [sys.executable, '-c', MEASURE, *paths, '/dev/zero'], cwd=ROOT, capture_output=True,
        text=True, timeout=60, check=False)
    *said, grown = done.stdout.splitlines()
    assert len(said) == len(paths) + 1 and all(
        str(path) in line for path, line in zip([*paths, '/dev/zero'], said))
    assert int(grown) < 30_000  # kB


# --- The import and the command line ---

def ramp(frame, height=48, width=96):
    """A frame whose central square is of one colour and whose sides are red."""
    picture = np.full((height, width, 3), 20 * frame, np.uint8)
    margin = (width - height) // 2
    picture[:, :margin] = picture[:, width - margin:] = [255, 0, 0]
    return picture


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / 'videos'
    (made / 'a frames').mkdir(parents=True)
    for frame in range(8):
        PIL.Image.fromarray(ramp(frame)).save(made / 'a frames' / f'{frame:03}.png')
    frames = np.array([ramp(frame) for frame in range(8)])
    imageio.v3.imwrite(made / 'b.gif', frames, duration=100, loop=0)
    imageio.v3.imwrite(made / 'c.mp4', frames, fps=10)
    imageio.v3.imwrite(made / 'd short.gif', frames[:3], duration=100, loop=0)
    (made / 'e damaged.mp4').write_bytes(b'nothing' * 50)
    (made / 'f.txt').write_text('notes')
    return made


def test_import(folder, capsys):
    videos = natural.import_videos(folder, frames=6)
    assert videos.shape == (3, 6, 3, 64, 64) and videos.dtype == np.uint8
    expected = 20 * np.arange(6)[None, :, None, None, None]
    assert abs(videos[:, :, :, :, 6:-6] - expected.astype(int)).max() < 12
    assert 'd short.gif: it gives 3 of the 6 frames' in capsys.readouterr().out
    second = natural.import_videos(folder, frames=4, every=2)
    assert abs(second[0].mean((1, 2, 3)) - [0, 40, 80, 120]).max() < 2
    own = natural.import_videos(folder / 'a frames', frames=8)
    assert own.shape == (1, 8, 3, 64, 64)


def halves(first, second, height=64, width=96):
    """A picture of two grey values or colours, the first at the left."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, :width // 2], picture[:, width // 2:] = first, second
    return PIL.Image.fromarray(picture)


def imported(folder, capsys=None, **words):
    """Frames [videos, 64, 64, 3] of a folder of one frame a video."""
    return natural.import_videos(folder, **{'frames': 1} | words)[:, 0].transpose(0, 2, 3, 1)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_frames_are_turned_as_their_tag_says(tmp_path, orientation):
    # How cameras store it: the tag says how to get from there to `shown`.
    shown, turns = halves([0, 0, 255], [255, 0, 0]), PIL.Image.Transpose
    shown.paste((0, 255, 0), (0, 0, 96, 16))  # above
    stored = {1: None, 2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM,
              5: turns.TRANSPOSE, 6: turns.ROTATE_90, 7: turns.TRANSVERSE,
              8: turns.ROTATE_270}[orientation]
    tag = PIL.Image.Exif()
    tag[274] = orientation
    (shown if stored is None else shown.transpose(stored)).save(
        tmp_path / 'a.jpg', exif=tag, quality=95)
    (frame,) = imported(tmp_path)
    for place, colour in ((30, 5), [0, 0, 255]), ((30, 58), [255, 0, 0]), ((4, 30), [0, 255, 0]):
        assert abs(frame[place].astype(int) - colour).max() < 40


def test_sixteen_bits_are_a_ramp(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, 0)
    PIL.Image.fromarray(ramp).save(tmp_path / 'a.png')
    (frame,) = imported(tmp_path)
    expected = np.linspace(0, 255, 64)[:, None]
    assert abs(frame - expected).max() < 2


@pytest.mark.parametrize('mode', ['P', 'RGBA', 'LA', 'P with alpha', 'L', 'CMYK'])
def test_colours_and_transparency_are_as_a_viewer_shows_them(tmp_path, mode):
    picture, alpha = halves([30, 30, 30], [220, 220, 220], 64, 64), 'A' in mode or 'alpha' in mode
    if alpha:
        cover = PIL.Image.new('L', (64, 64), 255)
        cover.paste(0, (0, 0, 64, 32))  # above
        picture.putalpha(cover)
    if mode == 'P with alpha':
        flat = PIL.Image.new('P', (64, 64), 1)
        flat.putpalette([255, 0, 0, 30, 30, 30, 220, 220, 220])
        flat.paste(2, (32, 0, 64, 64))
        flat.paste(0, (0, 0, 64, 32))
        flat.save(tmp_path / 'a.png', transparency=0)
    elif mode == 'CMYK':
        picture.convert(mode).save(tmp_path / 'a.jpg', quality=95)
    else:
        picture.convert(mode).save(tmp_path / 'a.png')
    (frame,) = imported(tmp_path)
    below = [30, 220]
    assert abs(frame[40:60, [8, 56]].mean((0, 2)) - below).max() < 8
    assert abs(frame[4:24, [8, 56]].mean((0, 2)) - ([255, 255] if alpha else below)).max() < 8


@pytest.mark.parametrize('names', [
    ('frame9.png', 'frame10.png', 'frame100.png'), ('9.png', '10.png', '0011.png'),
    ('frame (9).png', 'frame (10).png', 'frame (11).png'), ('a_9_x.PNG', 'A_10_x.png', 'a_11.png'),
    ('Frame-2.png', 'frame-3.png', 'Frame-10.png'), ('t2.9.png', 't2.10.png', 't10.1.png')])
def test_frames_are_in_the_order_of_their_numbers(tmp_path, names):
    for number, name in enumerate(names):
        PIL.Image.new('L', (64, 64), 100 * number).save(tmp_path / name)
    found = natural.import_videos(tmp_path, frames=3)
    assert found[0].mean((1, 2, 3)).tolist() == [0, 100, 200]


def test_videos_are_in_the_order_of_their_numbers(tmp_path):
    for number in 10, 9, 100:
        PIL.Image.new('L', (64, 64), number).save(tmp_path / f'v{number}.gif')
    assert imported(tmp_path).mean((1, 2, 3)).round().tolist() == [9, 10, 100]


def test_frames_of_a_gif_last_as_long_as_they_are_shown(tmp_path):
    """Those that are alike are stored as one that lasts longer."""
    still = [PIL.Image.new('L', (64, 64), 50 * (number // 2)) for number in range(6)]
    still[0].save(tmp_path / 'still.gif', save_all=True, duration=50, append_images=[
        *still[1:], PIL.Image.new('L', (64, 64), 200)])
    with PIL.Image.open(tmp_path / 'still.gif') as stored:
        assert stored.n_frames == 4
    assert natural.import_videos(tmp_path, frames=7).mean((2, 3, 4)).round().tolist() == [
        [0, 0, 50, 50, 100, 100, 200]]


def test_a_short_frame_of_a_gif_makes_the_others_no_longer(tmp_path):
    """What lasts no longer than 10 ms is shown for 100."""
    frames = [PIL.Image.new('L', (64, 64), 40 * number) for number in range(5)]
    frames[0].save(tmp_path / 'short.gif', save_all=True, append_images=frames[1:],
                   duration=[100, 100, 10, 100, 200])
    assert natural.import_videos(tmp_path, frames=6).mean((2, 3, 4)).round().tolist() == [
        [0, 40, 80, 120, 160, 160]]


def test_of_a_damaged_gif_the_frames_before_are_taken(tmp_path):
    random = np.random.default_rng(0)
    frames = [PIL.Image.fromarray(random.integers(0, 255, (64, 64), np.uint8)) for _ in range(9)]
    whole = tmp_path / 'whole.gif'
    frames[0].save(whole, save_all=True, append_images=frames[1:], duration=[300, *[50] * 8])
    wanted = natural.import_videos(tmp_path, frames=8)
    whole.write_bytes(whole.read_bytes()[:int(0.6 * whole.stat().st_size)])
    np.testing.assert_array_equal(natural.import_videos(tmp_path, frames=8), wanted)


def test_a_picture_that_moves_is_a_frame_among_others(tmp_path):
    (tmp_path / 'frames').mkdir()
    for number in range(3):
        moving = [PIL.Image.new('L', (64, 64), 50 * number + add) for add in range(2)]
        moving[0].save(tmp_path / 'frames' / f'{number}.png', save_all=True,
                       append_images=moving[1:], duration=[50, 500])
    assert natural.import_videos(tmp_path, frames=3).mean((2, 3, 4)).round().tolist() == [
        [0, 50, 100]]


@pytest.mark.parametrize('name, stream, count', [
    ('my_train.pkl', 0, 24), ('my_valid.pkl', 1, 8), ('Validation.pkl', 1, 8),
    ('natural_valid.pkl', 1, 8)])
def test_files_for_judging_have_other_scenes(name, stream, count, tmp_path, monkeypatch, capsys):
    asked = []
    def draw(*words):
        asked.append(words)
        return np.zeros((1, 1, 3, 64, 64), np.uint8)
    monkeypatch.setattr(natural, 'draw_videos', draw)
    monkeypatch.setattr(sys, 'argv', ['natural.py', '--out', str(tmp_path / name)])
    natural.main()
    assert asked == [(0, stream, count, 50)]
    assert f'scenes of natural_{["train", "valid"][stream]}.pkl' in capsys.readouterr().out


def test_what_other_systems_leave_and_covers_are_skipped_and_named(tmp_path, capsys):
    made = tmp_path / 'videos'
    (made / 'frames').mkdir(parents=True)
    for place in made, made / 'frames':
        for name in '._0.png', '.DS_Store', 'Thumbs.db', 'notes.txt':
            (place / name).write_bytes(b'nothing')
    (made / '__MACOSX').mkdir()
    for number in range(4):
        PIL.Image.new('L', (64, 64), 50 * number).save(made / 'frames' / f'{number}.png')
        PIL.Image.new('L', (64, 64), 255).save(made / f'cover{number}.jpg')
    clip = [PIL.Image.new('L', (64, 64), 20 * number) for number in range(4)]
    clip[0].save(made / 'clip.gif', save_all=True, append_images=clip[1:])
    videos = natural.import_videos(made, frames=3)
    assert videos.mean((2, 3, 4)).round().tolist() == [[0, 20, 40], [0, 50, 100]]
    printed = capsys.readouterr().out
    for words in (
            f'skipped in {made} (hidden, or of a system): ._0.png, .DS_Store, __MACOSX, Thumbs.db',
            f'skipped in {made / "frames"} (hidden, or of a system): ._0.png, .DS_Store, Thumbs.db',
            f'skipped in {made} (neither video nor png or jpg, by the name): notes.txt',
            f'skipped in {made} (a picture beside videos): cover0.jpg, cover1.jpg'):
        assert words in printed


def test_frames_beside_a_folder_are_a_video_and_few_pictures_beside_folders_are_none(
        tmp_path, capsys):
    (tmp_path / 'other').mkdir()
    for number in range(3):
        PIL.Image.new('L', (64, 64), 10 * number).save(tmp_path / f'{number}.png')
        PIL.Image.new('L', (64, 64), 200).save(tmp_path / 'other' / f'{number}.png')
    assert natural.import_videos(tmp_path, frames=3).mean((2, 3, 4)).tolist() == [[0, 10, 20]]
    assert '(a folder beside frames): other' in capsys.readouterr().out
    (tmp_path / '2.png').unlink()
    assert natural.import_videos(tmp_path, frames=3).mean() == 200
    assert '(a picture beside videos): 0.png, 1.png' in capsys.readouterr().out


def test_a_damaged_frame_is_named(tmp_path, capsys):
    for name in 'a', 'b':
        (tmp_path / name).mkdir()
        for number in range(2):
            PIL.Image.new('L', (64, 64)).save(tmp_path / name / f'{number}.png')
    whole = (tmp_path / 'a' / '1.png').read_bytes()
    (tmp_path / 'a' / '1.png').write_bytes(whole[:len(whole) // 2])
    assert len(natural.import_videos(tmp_path, frames=2)) == 1
    assert f'skipped {tmp_path / "a"}: 1.png: ' in capsys.readouterr().out


def test_of_what_ffmpeg_says_the_reason_is_told():
    banner = 'Could not load meta information\n=== stderr ===\n\nffmpeg version 7\n' + 'x' * 400
    assert natural.reason(OSError(f'{banner}\n  Invalid data  found\n\n')) == 'Invalid data found'
    assert natural.reason(ValueError()) == 'ValueError'


def test_videos_are_turned_and_stretched_as_a_player_shows_them(tmp_path):
    picture = halves([0, 0, 255], [255, 0, 0], 96, 96)
    picture.paste((0, 255, 0), (0, 0, 96, 24))  # above, left out by a square of narrow pixels
    frames = np.array([picture] * 4)
    plain, made = tmp_path / 'plain.mp4', tmp_path / 'made'
    made.mkdir()
    imageio.v3.imwrite(plain, frames, fps=10)
    for name, before, after in (
            ('1 turned', ['-display_rotation', '90'], ['-c', 'copy']),
            ('2 stretched', [], ['-vf', 'scale=24:96,setsar=4'])):
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *before, '-i', plain, *after,
                        made / f'{name}.mp4'], capture_output=True, check=True)
    turned, stretched = imported(made)
    for frame, places in (turned, ((32, 8), (8, 40), (56, 40))), (
            stretched, ((8, 32), (40, 56), (40, 8))):
        for place, colour in zip(places, ([0, 255, 0], [255, 0, 0], [0, 0, 255])):
            assert abs(frame[place].astype(int) - colour).max() < 60


def test_paths_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'made').mkdir()
    PIL.Image.new('L', (64, 64)).save(tmp_path / 'made' / '0.png')
    done = command('--import=~/made', '--out=~/own.pkl', '--frames', 1)
    assert done.returncode == 0, done.stderr
    assert command('--show', '~/own.pkl', '~/own.png').returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {'made', 'own.pkl', 'own.png'}


def test_import_of_nothing(tmp_path):
    with pytest.raises(config.UserError, match='could be used'):
        natural.import_videos(tmp_path)
    with pytest.raises(config.UserError, match='takes a folder'):
        natural.import_videos(tmp_path / 'nowhere')


def test_command_imports_and_shows(folder, tmp_path):
    out, picture = tmp_path / 'own.pkl', tmp_path / 'own.png'
    words = ['--import', folder, '--out', out, '--frames', 5]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    assert natural.load(out).shape == (3, 5, 3, 64, 64)
    assert command('--show', out, picture).returncode == 0
    assert PIL.Image.open(picture).size == (8 * 128, 3 * 128)
    moving = command('--show', out, tmp_path / 'own.gif')
    assert moving.returncode == 2 and '--show writes a picture' in moving.stderr
    assert not (tmp_path / 'own.gif').exists()
    assert not list(tmp_path.glob('*.partial'))

    before = out.stat().st_mtime_ns
    again = command(*words)
    assert again.returncode == 2 and out.stat().st_mtime_ns == before
    assert again.stderr == f'error: {out} exists; add --overwrite to replace it\n'
    natural.run(argparse.Namespace(
        show=None, folder=folder, out=out, frames=4, every=1, seed=0, overwrite=True))
    assert natural.load(out).shape == (3, 4, 3, 64, 64)


@pytest.mark.parametrize('name, stream, count', [
    ('natural_train.pkl', 0, 24), ('natural_valid.pkl', 1, 8), ('mine.pkl', 0, 24)])
def test_a_file_that_is_drawn_alone_is_the_one_of_its_name(
        name, stream, count, tmp_path, monkeypatch):
    """A file of evaluation must not hold the scenes of training."""
    monkeypatch.setattr(natural, 'draw_videos', lambda *drawn: drawn)
    saved = []
    monkeypatch.setattr(natural, 'save', lambda videos, path: saved.append((videos, path)))
    out = str(tmp_path / name)
    natural.run(argparse.Namespace(
        show=None, folder=None, out=out, frames=4, every=1, seed=3, overwrite=False))
    assert saved == [((3, stream, count, 4), out)]


def test_default_run_keeps_what_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ('train', 'valid'):
        (tmp_path / f'natural_{part}.pkl').write_text('mine')
    done = command()
    assert done.returncode == 2 and 'overwrite' in done.stderr and done.stderr.count('\n') == 1
    assert (tmp_path / 'natural_train.pkl').read_text() == 'mine'


@pytest.mark.parametrize('words', [
    ['--show', 'nowhere.pkl', 'nowhere.png'], ['--import', 'nowhere', '--out', 'nowhere.pkl'],
    ['--out', 'nowhere/videos.pkl'], ['--out', '.', '--overwrite'],
    ['--import', '', '--out', 'new.pkl'], ['--frames', '0'], ['--frames', '1000000'],
    ['--import', '.', '--show', 'a', 'b'], ['--no_such_option']])
def test_mistakes_are_one_line(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    done = command(*words)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert '--out' not in words or 'cannot write' in done.stderr or '--import' in words
    assert not list(tmp_path.iterdir())


def test_a_few_bytes_that_claim_gigabytes_take_none(tmp_path):
    """A frame of eight gigabytes in nine bytes, or among others."""
    path = tmp_path / 'videos.pkl'
    frame = b'\x95' + (2 ** 33).to_bytes(8, 'little')
    for content in frame, b'\x80\x04' + frame + b'N.':
        path.write_bytes(content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(config.UserError, match='no file of videos'):
            natural.load(str(path))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 ** 5  # kilobytes
