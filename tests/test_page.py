"""The page beside the figures: that all of it is on it, and that it needs nothing else."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
import test_plotting
from PIL import Image

import page
import plotting
import tools


class Reader(html.parser.HTMLParser):
    """What a browser finds: names of elements that are open, texts, sources of pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.sources, self.cells = [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        attributes = dict(attributes)
        if name == 'img':
            self.sources[attributes['alt']] = attributes['src']
        if name not in ('img', 'meta'):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ('td', 'th'):
            self.cells.append(data)


def film(folder, name, count=250, height=40):
    (folder / 'videos').mkdir(exist_ok=True)
    frames = np.random.default_rng(0).integers(0, 255, (count, height, 60, 3), np.uint8)
    (folder / 'videos' / name).write_bytes(tools.gif(frames, 20))


def drawn(tmp_path, **words):
    plotting.draw([tmp_path / 'in'], tmp_path / 'out', **words)
    return (tmp_path / 'out' / 'index.html').read_text(encoding='utf-8')


def test_all_figures_tables_and_newest_videos_are_on_one_page(tmp_path):
    for method in ('mummi', 'cvrl'):
        test_plotting.make(tmp_path / 'in', method=method)
    run = tmp_path / 'in' / test_plotting.WALK / 'mummi' / '0'
    for name in ('000010000-eval.gif', '000020000-eval.gif', '000020000-open_loop_depth.gif'):
        film(run, name)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'old.png').write_bytes(b'of another call')
    text = drawn(tmp_path, metrics=('model_loss',))
    found = Reader(text)
    assert found.open == []
    figures = ['returns', 'returns_eval', 'missing_ratio', 'single_sensor', 'losses']
    assert list(found.sources)[:5] == figures and len(found.sources) == 7
    for name in figures:
        kind, data = found.sources[name].split(',')
        assert kind == 'data:image/png;base64'
        assert base64.b64decode(data) == (tmp_path / 'out' / f'{name}.png').read_bytes()
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import', text)
    assert 'dmc_walker_walk, mummi, seed 0, 20k steps' in found.texts
    table = (tmp_path / 'out' / 'table.md').read_text()
    cells = [cell.strip() for line in table.splitlines() if line.startswith('|')
             for cell in line.strip('| ').split(' | ')]
    numbers = [cell for cell in cells if re.search(r'\d', cell)]
    assert len(numbers) > 10 and set(numbers) <= set(found.cells)


def test_videos_are_of_the_least_seed_that_has_any(tmp_path):
    for seed in 0, 1, 2:
        test_plotting.make(tmp_path / 'in', seed=seed)
    film(tmp_path / 'in' / test_plotting.WALK / 'mummi' / '1', '000020000-eval.gif')
    film(tmp_path / 'in' / test_plotting.WALK / 'mummi' / '2', '000020000-eval.gif')
    found = Reader(drawn(tmp_path))
    assert 'dmc_walker_walk, mummi, seed 1, 20k steps' in found.texts


def test_videos_are_small_and_keep_their_pace(tmp_path):
    (tmp_path / 'run').mkdir()
    film(tmp_path / 'run', '000010000-eval.gif')
    content = page.small(tmp_path / 'run' / 'videos' / '000010000-eval.gif')
    with Image.open(io.BytesIO(content)) as video:
        assert video.size == (30, 20) and 50 < video.n_frames <= page.FRAMES
    assert lasts(content) == 250 * 50


def lasts(content):
    """Milliseconds of a GIF."""
    with Image.open(io.BytesIO(content)) as video:
        times = []
        for number in range(video.n_frames):
            video.seek(number)
            times.append(video.info['duration'])
        return sum(times)


@pytest.mark.parametrize('still', [range(5), range(20, 40)])
def test_a_video_that_stands_still_for_a_while_keeps_its_pace(still, tmp_path):
    """Frames that are alike are one in the file, which lasts longer."""
    frames = np.random.default_rng(0).integers(0, 256, (40, 20, 30, 3), np.uint8)
    frames[still] = frames[still[0]]
    (tmp_path / 'still.gif').write_bytes(tools.gif(frames, 20))
    content = page.small(tmp_path / 'still.gif')
    assert lasts(content) == lasts((tmp_path / 'still.gif').read_bytes()) == 40 * 50


def test_videos_beyond_the_limit_and_broken_ones_are_named(tmp_path, capsys, monkeypatch):
    run = tmp_path / 'in' / test_plotting.WALK / 'mummi' / '0'
    test_plotting.make(tmp_path / 'in')
    for name in ('000010000-eval.gif', '000010000-open_loop_image.gif'):
        film(run, name)
    film(run, '000010000-open_loop_depth.gif')
    (run / 'videos' / '000010000-open_loop_depth.gif').write_bytes(b'GIF89a')
    # Of a size that none has, which Pillow answers with an error of its own.
    film(run, '000010000-open_loop_touch.gif')
    path = run / 'videos' / '000010000-open_loop_touch.gif'
    content = path.read_bytes()
    path.write_bytes(content[:6] + b'\xff' * 4 + content[10:])
    monkeypatch.setattr(page, 'MOST', 200_000)
    text, said = drawn(tmp_path), capsys.readouterr().out
    for sensor in 'depth', 'touch':
        assert f'000010000-open_loop_{sensor}.gif: left out of the page' in said
    assert '1 videos would make' in said and 'mummi: open_loop_image' in said
    assert 'mummi: open_loop_image' in text and text.count('data:image/gif') == 1


def test_names_are_no_markup(tmp_path):
    test_plotting.make(tmp_path / 'in', task='dmc_<b>_&"x|y')
    found = Reader(drawn(tmp_path))
    assert found.open == [] and 'dmc_<b>_&"x|y' in found.cells
