# Two images: the CPU one (default) and, with --target gpu, one for NVIDIA GPUs with CUDA 13 drivers.
#   docker build -t scrawl .                      docker run -p 8000:8000 -v ~/images:/studies scrawl
#   docker build -t scrawl-gpu --target gpu .     docker run --gpus all -p 8000:8000 -v ~/images:/studies scrawl-gpu
FROM golang:1.26-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -trimpath -o /out/scrawl ./cmd/scrawl

FROM build AS runtime-cpu
RUN /out/scrawl runtime install --dir /out/ort

FROM build AS runtime-gpu
RUN /out/scrawl runtime install --gpu --dir /out/ort

# A container listens to its network, and wants to know who may come: give it accounts or a realm (SCRAWL_AUTH_ENABLE=true with
# SCRAWL_AUTH_ACCOUNTS or SCRAWL_AUTH_REALM_URI), or, where everybody in reach is trusted, SCRAWL_AUTH_ALLOW_ANONYMOUS=true with the
# port published on this machine only (-p 127.0.0.1:8000:8000).
FROM debian:bookworm-slim AS base
RUN useradd --create-home --uid 10001 scrawl && mkdir /studies && chown scrawl /studies
COPY --from=build /out/scrawl /usr/local/bin/scrawl
ENV SCRAWL_SERVER_HOST=0.0.0.0 SCRAWL_STUDIES=/studies
USER scrawl
VOLUME /studies
EXPOSE 8000
ENTRYPOINT ["scrawl"]
CMD ["serve"]

FROM nvidia/cuda:13.0.0-cudnn-runtime-ubuntu24.04 AS gpu
RUN useradd --create-home --uid 10001 scrawl && mkdir /studies && chown scrawl /studies
COPY --from=build /out/scrawl /usr/local/bin/scrawl
COPY --from=runtime-gpu /out/ort /opt/ort
ENV SCRAWL_SERVER_HOST=0.0.0.0 SCRAWL_STUDIES=/studies SCRAWL_RUNTIME_DEVICE=cuda ORT_LIB=/opt/ort/libonnxruntime.so
USER scrawl
VOLUME /studies
EXPOSE 8000
ENTRYPOINT ["scrawl"]
CMD ["serve"]

# Last, so that it is what a plain build makes.
FROM base AS cpu
COPY --from=runtime-cpu /out/ort /opt/ort
ENV ORT_LIB=/opt/ort/libonnxruntime.so
