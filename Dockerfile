# The image of Remediator: its locked dependencies, its wheel, and nothing that builds them.
#
# It runs as user 65532 and writes only to /var/lib/remediator, so it can be given a read-only root file system:
#   docker run --read-only --volume remediator:/var/lib/remediator --volume ./etc:/etc/remediator:ro remediator
# The base must be one with glibc: CEL and RE2 are published for no other C library.

FROM python:3.11-slim AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/ requirements/
RUN python -m venv /opt/remediator \
 && /opt/remediator/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/run.lock \
 && pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY remediator/ remediator/
COPY alertmanager/ alertmanager/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/remediator/bin/pip install --no-deps dist/*.whl \
 && /opt/remediator/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
LABEL org.opencontainers.image.title="remediator" \
      org.opencontainers.image.description="Alerts become guarded, verified and audited actions" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/remediator /opt/remediator
# The folder belongs to the user before it becomes a volume; a new volume takes over its owner.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/remediator
ENV PATH=/opt/remediator/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/remediator
VOLUME /var/lib/remediator
EXPOSE 9095
ENTRYPOINT ["remediator"]
CMD ["serve", "--config.file=/etc/remediator/remediator.yaml", "--web.listen-address=0.0.0.0:9095"]
