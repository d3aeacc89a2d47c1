"""The Dockerfiles, as far as that can be said without Docker: what they copy is there, and what
they run is what the README says."""

import pathlib
import re

import pytest

import config

ROOT = pathlib.Path(config.__file__).parent
README = (ROOT / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('name', ['Dockerfile', 'Dockerfile.gpu'])
def test_dockerfiles_copy_what_is_there_and_run_the_readmes_commands(name):
    text = (ROOT / name).read_text(encoding='utf-8')
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    lines = re.sub(r'\\\n\s*', '', text).splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith('#')]
    assert {step for step, _ in steps} <= {
        'FROM', 'RUN', 'WORKDIR', 'COPY', 'ENV', 'CMD', 'ARG'}
    for step, rest in steps:
        if step == 'COPY':
            *sources, _ = rest.split()
            assert all(source == '.' or list(ROOT.glob(source)) for source in sources), rest
        for target in re.findall(r'(?:^|&& )make (\S+)', rest if step == 'RUN' else ''):
            assert f'\n{target}:' in makefile
        for file in re.findall(r'requirements\S*\.txt', rest):
            assert list(ROOT.glob(file))
    assert steps[-1] == ['CMD', '["make", "demo"]']
    for command in re.findall(r'^    (make \w+) +#', README, re.MULTILINE):
        assert re.search(rf'^#.*docker run .* {command}$', text, re.MULTILINE), command
    packages = re.search(r'apt-get install (libegl1 .*)', README)[1].split()
    assert all(package in text for package in packages)
