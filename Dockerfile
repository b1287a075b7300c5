# The image of Heretic: see deploy/README.md. Versions are those of the day in pyproject.toml ([tool.uv]), as in a clone.
# The wheels of torch bring CUDA; the base brings what asks for a driver that is new enough for them.
ARG BASE=nvidia/cuda:13.0.1-base-ubuntu24.04
ARG UV=ghcr.io/astral-sh/uv:0.13.9

FROM ${UV} AS uv

FROM ${BASE} AS build
ARG PYTHON=3.12
ARG EXTRAS="parallel postgresql web"
ARG PACKAGES
# Wheels and constraints of one's own, and certificates where a proxy has some: what uv reads from its environment.
ARG UV_FIND_LINKS
ARG UV_CONSTRAINT
ARG SSL_CERT_FILE
ENV UV_CACHE_DIR=/cache/uv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
ENV UV_PYTHON_INSTALL_DIR=/opt/python VIRTUAL_ENV=/opt/heretic
WORKDIR /source
COPY --from=uv /uv /usr/local/bin/uv
COPY pyproject.toml README.md LICENSE ./
# What it needs first: these layers stay as they are when only the source changes.
RUN --mount=type=cache,target=/cache/uv \
    uv venv --python "${PYTHON}" "${VIRTUAL_ENV}" \
    && for extra in ${EXTRAS}; do set -- "$@" --extra "${extra}"; done \
    && for package in ${PACKAGES}; do set -- "$@" "${package}"; done \
    && uv pip install "$@" --requirement pyproject.toml
COPY src src
RUN --mount=type=cache,target=/cache/uv uv pip install --no-deps .

FROM ${BASE}
# Ubuntu's images have a user of that number.
RUN getent passwd 1000 > /dev/null || useradd --uid 1000 --create-home heretic; \
    mkdir -p /opt/python /workspace/.cache/huggingface && chown -R 1000:1000 /workspace
COPY --from=build /opt /opt
ENV PATH=/opt/heretic/bin:${PATH} HF_HOME=/workspace/.cache/huggingface PYTHONUNBUFFERED=1
USER 1000:1000
# The study, saved models, conversations, and what was downloaded.
WORKDIR /workspace
VOLUME /workspace
ENTRYPOINT ["heretic"]
