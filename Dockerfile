# The course in one image: for `docker run`, Binder, Codespaces and Kubernetes.
#
#     docker build --tag mbm-lab .
#     docker run --rm --publish 127.0.0.1:8888:8888 mbm-lab
FROM python:3.13-slim-trixie

# Binder wants a user of this name and number, and no root.
ARG NB_USER=jovyan
ARG NB_UID=1000
ENV USER=${NB_USER} \
    HOME=/home/${NB_USER} \
    MBM_HOME=/home/${NB_USER} \
    OMP_NUM_THREADS=1 \
    PIP_NO_CACHE_DIR=1
RUN useradd --create-home --uid ${NB_UID} --shell /bin/bash ${NB_USER}

# PyTorch first, the one without a part for graphics cards: it is the largest, and a changed lesson
# does not install it again.
WORKDIR /opt/mbm-lab
COPY constraints.txt ./
RUN pip install -c constraints.txt uv \
    && uv pip install --system --no-cache --torch-backend=cpu -c constraints.txt torch

# The course, which learners only read; JupyterHub is for Binder and Kubernetes.
COPY . .
RUN pip install -c constraints.txt jupyterhub -e .

USER ${NB_USER}
WORKDIR ${HOME}
RUN python -c "from mbm_lab import copies; print(*copies.prepare(), sep='\n')"

EXPOSE 8888
CMD ["mbm-lab", "lab", "--ip", "0.0.0.0", "--no-browser"]
