# manyeyes on a GPU or without one. Build in the repository's root:
#   docker build -t manyeyes .
#   docker run --rm --gpus all --ipc host -v "$PWD":/work manyeyes compare clip dinov2 comm \
#       --train my.json --images pictures --out study
# Results lie in the mounted folder. Without a GPU leave out --gpus.
FROM python:3.11-slim

WORKDIR /opt/manyeyes
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt \
    ".[peft,parquet,detection,tensorboard,api,serve]"

# weights from the Hugging Face hub are kept here: mount it to keep them between runs
ENV HF_HOME=/cache
VOLUME /cache
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["manyeyes"]
CMD ["--help"]
