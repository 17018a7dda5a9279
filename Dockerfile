# One file for every role: what differs is the lock. The steps are the Makefile's own.
#   docker build --build-arg LOCK=requirements/core.txt .
FROM python:3.11-slim-bookworm

# make: the steps below. libgl1, libglib2.0-0: what OpenCV links against.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make libgl1 libglib2.0-0 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 eioku \
 && install --directory --owner eioku --group eioku /app /data /models /media

USER eioku
WORKDIR /app
ARG LOCK=requirements/core.txt

# The libraries in a layer of their own: a change of our code does not bring them again.
COPY --chown=eioku Makefile ./
COPY --chown=eioku requirements requirements
RUN make PYTHON=python3.11 LOCK="$LOCK" .venv/.locked

COPY --chown=eioku . .
RUN make PYTHON=python3.11 LOCK="$LOCK" install

ENV PATH=/app/.venv/bin:$PATH \
    EIOKU_DATA=/data \
    EIOKU_MODELS_DIR=/models \
    EIOKU_MEDIA_ROOTS=/media \
    EIOKU_HOST=0.0.0.0 \
    EIOKU_LOG_FORMAT=json
ENTRYPOINT ["eioku"]
CMD ["--help"]
