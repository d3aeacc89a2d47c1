# On a CPU:  docker build -t mummi .
#            docker run --rm -v "$PWD/logdir:/mummi/logdir" mummi make demo
#            docker run --rm -v "$PWD/logdir:/mummi/logdir" mummi make claim
#            docker run --rm mummi make test
FROM python:3.11-slim-bookworm

RUN apt-get update && apt-get install -y --no-install-recommends \
        make libegl1 libgl1-mesa-dri && rm -rf /var/lib/apt/lists/*
WORKDIR /mummi
# The packages before the code: a change of the code does not install them again.
COPY Makefile requirements*.txt ./
# For studies on a cluster: docker build --build-arg EXTRA=requirements-cluster.txt ...
ARG EXTRA=requirements.txt
RUN make .venv/installed && .venv/bin/pip install -r $EXTRA && rm -rf /root/.cache
COPY . .
# Copied files may be newer than the mark of the installation.
RUN touch .venv/installed
ENV PATH=/mummi/.venv/bin:$PATH
CMD ["make", "demo"]
