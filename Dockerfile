# An image with the programs, Atari games and videos:
#   docker build -t trpo_tf .
#   docker run --rm -v "$PWD/runs:/work/runs" trpo_tf \
#     trpo-train --preset=v5/hopper --run_dir=runs/hopper_1
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

FROM python:3.11-slim
# Mesa renders videos without a GPU.
RUN apt-get update && apt-get install -y --no-install-recommends libegl1 \
    libgl1-mesa-dri && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
  pip install --no-cache-dir -c /constraints.txt \
    "$(echo /wheels/trpo_tf-*.whl)[atari,video]"
WORKDIR /work
CMD ["trpo-train", "--help"]
