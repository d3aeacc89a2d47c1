"""What the pages link to is there."""

import pathlib
import re

import pytest

import config

ROOT = pathlib.Path(config.__file__).parent
PAGES = [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('results/**/*.md')]


def prose(page):
    """Text of a page without its blocks of code."""
    return re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)


def anchors(page):
    """What `#...` can name on a page: the headings as GitHub writes them."""
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')
            for heading in re.findall(r'^#+ (.*)$', prose(page), re.MULTILINE)}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', prose(page)):
        if '://' in target:
            continue
        place, _, anchor = target.partition('#')
        path = page.parent / place if place else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target
