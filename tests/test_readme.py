"""The pages say what the code says."""

import importlib.util
import pathlib
import re

import helpers
import tensorflow as tf

import commandline
import config
import environments
from actions import Continuous
from agent import Agent

ROOT = pathlib.Path(config.__file__).parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')


def module(path):
    """A script of the repository, imported and not run."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(found)
    return found


def test_options_page_is_what_make_docs_writes():
    options = module(ROOT / 'docs/options.py')
    assert options.PAGE.read_text(encoding='utf-8') == options.page(), 'type make docs'


def test_page_of_families_shows_a_task_of_each():
    tasks = module(ROOT / 'figures/families.py').TASKS
    assert {task.split('_')[0] for task in tasks} == set(environments.FAMILIES)
    page = (ROOT / 'docs/families.md').read_text(encoding='utf-8')
    assert re.findall(r'^\| `(\w[^`]*)`', page, re.MULTILINE) == list(tasks)


def test_readme_shows_mummis_own_code():
    source = (ROOT / 'mummi.py').read_text(encoding='utf-8')
    blocks = [block for block in re.findall(r'```python\n(.*?)```', README, re.DOTALL)
              if 'def ' in block]  # the other is run by test_sharing.py
    assert len(blocks) == 2 and ''.join(blocks).count('def ') >= 2
    for block in blocks:
        assert block.rstrip('\n') in source


def test_readme_is_short_and_names_every_file():
    files = {path.name for path in ROOT.glob('*.py')}
    table = README[README.index('## The files'):README.index('## Where to read on')]
    assert files <= set(re.findall(r'`(\w+\.py)`', table))
    # The table grows with the files, those of one's own too.
    assert len(README.replace(table, '').splitlines()) <= 122


def test_every_page_of_docs_is_linked_from_the_readme():
    for page in ROOT.glob('docs/*.md'):
        assert f'](docs/{page.name}' in README, page.name


def test_the_method_that_the_docs_add_learns_and_acts():
    text = (ROOT / 'docs/extending.md').read_text(encoding='utf-8')
    code = re.search(r'```python\n("""The latent.*?)```', text, re.DOTALL)[1]
    script = {'__name__': 'cosine'}
    exec(compile(code, 'cosine.py', 'exec'), script)
    settings = commandline.parse(script['METHOD'], [
        '--preset=debug', '--logdir=unused', '--no-natural', '--withhold=0.5'])
    agent = Agent(settings, script['CosineContrast'], helpers.SHAPES, Continuous(2, 0.3))
    arrays = helpers.sequences()
    metrics = agent.train(helpers.tensors(arrays | {'action': arrays['action'][..., :2]}))
    assert 0 < metrics['cosine_loss'] < 30 and metrics['decoders_loss'] > 0
    observation = helpers.tensors(helpers.observations(1))
    action, _ = agent.policy(
        observation | {'is_first': tf.constant([True])}, agent.initial(1), False)
    assert action.shape == (1, 2)
