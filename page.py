"""index.html: the figures, tables and videos of plotting.py on one page that needs no other file,
to be looked at and sent to others."""

import base64
import glob
import html
import io
import os
import re

from PIL import Image

import files
import logs
import texts

# Videos are shown at half their size with at most so many frames, for pages that can be sent.
FRAMES = 100
# Bytes of all videos of a page; those beyond are named.
MOST = 20e6

# What the newest of each kind is shown of, file -> heading.
VIDEOS = {'eval': 'as the agent sees it (orange frame: sensor missing)'}

STYLE = '''
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1150px; margin: 2em auto; padding: 0 1em;
       color: #222 }
h1 { font-size: 1.6em } h2 { border-bottom: 1px solid #ddd; margin-top: 2em }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; display: block;
        overflow-x: auto }
th, td { border: 1px solid #ddd; padding: 3px 8px; text-align: left; vertical-align: top }
th { background: #f4f4f4 }
figure { margin: 1.5em 0 } figure img { max-width: 100% }
figcaption { color: #555; font-size: 13px }
.videos { display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start }
.videos figure { margin: 0 }
'''


def element(name, text, **attributes):
    """An element with `text` in it, which is no markup."""
    said = ''.join(f' {key}="{html.escape(str(value))}"' for key, value in attributes.items())
    return f'<{name}{said}>{html.escape(str(text))}</{name}>'


def table(header, rows):
    """The markup of a table of texts."""
    lines = [''.join(element('th', cell) for cell in header)]
    lines += [''.join(element('td', cell) for cell in row) for row in rows]
    return '<table>' + '\n'.join(f'<tr>{line}</tr>' for line in lines) + '</table>'


def markup(blocks):
    """The markup of `comparison.blocks`: tables and paragraphs."""
    return '\n'.join(
        element('p', block) if isinstance(block, str) else table(*block) for block in blocks)


def picture(content, kind, caption):
    """The bytes of a picture as a figure that holds them."""
    data = base64.b64encode(content).decode()
    return (f'<figure><img loading="lazy" alt="{html.escape(caption)}" '
            f'src="data:image/{kind};base64,{data}"><figcaption>{html.escape(caption)}'
            '</figcaption></figure>')


def small(path):
    """The GIF at `path` at half its size with at most FRAMES frames, at its pace: bytes."""
    with Image.open(path) as video:
        every = -(-video.n_frames // FRAMES)
        frames, pace = [], []
        for number in range(video.n_frames):
            video.seek(number)
            if number % every == 0:
                frames.append(video.convert('RGB').reduce(2))
                pace.append(0)
            # Frames that are alike are one that lasts longer.
            pace[-1] += video.info.get('duration', 50)
    stream = io.BytesIO()
    frames[0].save(stream, 'GIF', save_all=True, append_images=frames[1:],
                   duration=pace, loop=0)
    return stream.getvalue()


def newest(folder):
    """(name, step, path) of the newest video of each kind of a run, the evaluation first."""
    found = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), 'videos', '*.gif'))):
        if match := re.fullmatch(r'(\d{9,})-(\w+)\.gif', os.path.basename(path)):
            found[match[2]] = max(found.get(match[2], (0, '')), (int(match[1]), path))
    return [(name, *found[name]) for name in sorted(found, key=lambda name: (name != 'eval', name))]


def videos(groups):
    """The markup of the newest videos of one run of each method of each task, the least seed that
    has any; what is left out is
    said, there and in a printed line."""
    parts, total, beyond = [], 0, []
    for task, group in groups.items():
        for method, runs in group.items():
            run = min(filter(lambda run: newest(run.folder), runs),
                      key=lambda run: run.config.seed, default=None)
            if run is None:
                continue
            shown, steps = [], 0
            for name, step, path in newest(run.folder):
                said = VIDEOS.get(name) or (
                    name.replace('open_loop_', '') + ': truth, open-loop prediction, difference')
                try:
                    content = small(path) if total < MOST else b''
                except Exception as error:  # Pillow's for damaged files are of many kinds
                    print(f'{path}: left out of the page, {error}')
                    continue
                if total + len(content) > MOST or not content:
                    beyond.append(f'{task}, {method}: {name}')
                    continue
                total, steps = total + len(content), max(steps, step)
                shown.append(picture(content, 'gif', said))
            if shown:
                parts.append(element('h3', f'{task}, {method}, seed {run.config.seed}, '
                                           f'{texts.short(steps)} steps'))
                parts.append(f'<div class="videos">{"".join(shown)}</div>')
    if beyond:
        said = (f'{len(beyond)} videos would make the page larger than {MOST / 1e6:.0f} MB of '
                f'videos, and are left out: {"; ".join(beyond)}')
        print(said)
        parts.append(element('p', said))
    return '\n'.join(parts)


def runs_of(groups):
    """The markup of what the page is of: a row for each method of each task."""
    rows = []
    for task, group in groups.items():
        for method, runs in group.items():
            revisions = {text for run in runs for text in run.history['revisions']}
            rows.append([
                task, method, ', '.join(sorted(str(run.config.seed) for run in runs)),
                runs[0].config.preset, ', '.join(sorted({logs.progress(run) for run in runs})),
                ', '.join(sorted({texts.short(run.judged) for run in runs if run.judged})) or '-',
                ', '.join(sorted(revisions)) or 'not written down'])
    return table(['task', 'method', 'seeds', 'preset', 'steps', 'judged at', 'revisions'], rows)


def write(groups, outdir, figures, blocks):
    """Write index.html beside the figures of those names in `outdir`. blocks: of the tables, see
    `comparison.blocks`."""
    def content(name):
        with open(os.path.join(outdir, name), 'rb') as file:
            return file.read()
    parts = [element('h1', 'Runs on ' + ', '.join(groups)), runs_of(groups),
             element('h2', 'Figures')]
    parts += [picture(content(f'{name}.png'), 'png', name) for name in figures]
    parts += [element('h2', 'Tables'), markup(blocks)]
    if shown := videos(groups):
        parts += [element('h2', 'Videos'), shown]
    title = element('title', 'Runs on ' + ', '.join(groups))
    text = ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'{title}<style>{STYLE}</style></head>\n<body>\n' + '\n'.join(parts)
            + '\n</body></html>\n')
    with files.writing(os.path.join(outdir, 'index.html')) as file:
        file.write(text.encode(errors='backslashreplace'))
