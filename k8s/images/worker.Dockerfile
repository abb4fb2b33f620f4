# syntax=docker/dockerfile:1
# From the root of the repository, for GPUs and for CPUs:
#   docker build -f k8s/images/worker.Dockerfile -t accord-worker:0.1.0-cuda .
#   docker build -f k8s/images/worker.Dockerfile --target cpu -t accord-worker:0.1.0 .
# The binary is the same: it loads libtorch's CUDA half where there is one.

# Holds a libtorch 2.11 for CUDA 13 in its Python; any image that does will do.
ARG BASE=pytorch/pytorch:2.11.0-cuda13.0-cudnn9-runtime

FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# before the sources, so that a change of those does not fetch libtorch anew
COPY .ci/setup .ci/
RUN .ci/setup
COPY . .
RUN cargo build --release --locked -p accord-worker

FROM build AS nccl
RUN .ci/nccl

FROM debian:bookworm-slim AS cpu
# the slim image has no authorities; an object store is reached by https
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# laid out as in the checkout: the binary looks for libtorch in ../../.deps/libtorch/lib
COPY --from=build /src/.deps/libtorch/lib /accord/.deps/libtorch/lib
COPY --from=build /src/target/release/worker /accord/target/release/worker
# fails here, not in the cluster, when a library is missing
RUN /accord/target/release/worker --version
USER 65532:65532
ENTRYPOINT ["/accord/target/release/worker"]

FROM ${BASE} AS cuda
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# wherever the image's Python keeps torch; another version than 2.11 has another binary interface
RUN python3 -c 'import importlib.metadata as m; v = m.version("torch"); assert v.startswith("2.11."), v' \
 && mkdir /accord && ln -s "$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])')" /accord/torch
# the second holds the driver's libraries where a cluster mounts them, instead of the container toolkit
ENV LD_LIBRARY_PATH=/accord/torch/lib:/usr/local/nvidia/lib64
COPY --from=build /src/target/release/worker /accord/target/release/worker
# it is looked for beside the binary
COPY --from=nccl /src/.deps/nccl/libaccord_nccl.so /accord/target/release/
RUN /accord/target/release/worker --version
WORKDIR /
USER 65532:65532
ENTRYPOINT ["/accord/target/release/worker"]
